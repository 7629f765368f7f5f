// The film alone on the whole screen. Where the browser refuses full screen, the film fills the window.
export class FullScreen {
  constructor(box, root, press) {
    Object.assign(this, { box, root, press });
  }

  get on() {
    return this.box.classList.contains("full");
  }

  set(on) {
    this.box.classList.toggle("full", on);
    this.press.setAttribute("aria-pressed", on);
  }

  toggle() {
    if (this.on) return this.leave();
    this.set(true);
    this.root.requestFullscreen?.().catch(() => {});
  }

  leave() {
    this.set(false);
    if (document.fullscreenElement) document.exitFullscreen().catch(() => {});
  }

  // Follow the browser, which leaves full screen by Escape. Returns how to stop.
  follow() {
    const changed = () => {
      if (!document.fullscreenElement) this.set(false);
    };
    const escape = (e) => {
      if (e.key === "Escape" && this.on && !document.querySelector("dialog[open]")) this.leave();
    };
    document.addEventListener("fullscreenchange", changed);
    document.addEventListener("keydown", escape);
    return () => {
      document.removeEventListener("fullscreenchange", changed);
      document.removeEventListener("keydown", escape);
    };
  }
}
