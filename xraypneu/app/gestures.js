// Wheel, drag, pinch and double click on the frames of a film. Frames beside each other follow one lens and one window.
// The left button moves the film. The right one, or Shift, changes the window, and the left one while its tool is on.
import { factorOf, passes } from "./lens.js";

export class Gestures {
  constructor(viewer) {
    this.viewer = viewer; // has lens, zoomAt, moveBy, fit and window
    this.fingers = new Map(); // by pointer: where it is, and whether it changes the window
    this.zoomed = -Infinity; // when the wheel zoomed last
  }

  listen(frame) {
    const on = (name, does) => frame.addEventListener(name, (e) => does(e, frame), { passive: false });
    on("wheel", (e) => this.turn(e, frame));
    on("dblclick", () => this.viewer.fit());
    on("contextmenu", (e) => e.preventDefault()); // the right button changes the window
    on("pointerdown", (e) => this.touch(e, frame));
    on("pointermove", (e) => this.drag(e, frame));
    for (const name of ["pointerup", "pointercancel"]) on(name, (e) => this.lift(e, frame));
  }

  turn(e, frame) {
    if (passes(this.viewer.lens, e, e.timeStamp - this.zoomed)) return;
    e.preventDefault();
    this.zoomed = e.timeStamp;
    this.viewer.zoomAt(factorOf(e), e.clientX, e.clientY, frame);
  }

  touch(e, frame) {
    if (e.button !== 0 && e.button !== 2) return;
    const windows = e.button === 2 || e.shiftKey || this.viewer.window.held;
    this.fingers.set(e.pointerId, { x: e.clientX, y: e.clientY, windows });
    frame.setPointerCapture(e.pointerId);
    frame.classList.add("held");
  }

  drag(e, frame) {
    const before = this.fingers.get(e.pointerId);
    if (!before) return;
    const now = { ...before, x: e.clientX, y: e.clientY };
    const other = [...this.fingers].find(([id]) => id !== e.pointerId)?.[1];
    this.fingers.set(e.pointerId, now);
    if (!other && now.windows) return this.viewer.window.drag(now.x - before.x, now.y - before.y);
    if (!other) return this.viewer.moveBy(now.x - before.x, now.y - before.y, frame);
    const span = (finger) => Math.max(1, Math.hypot(finger.x - other.x, finger.y - other.y));
    this.viewer.zoomAt(span(now) / span(before), (now.x + other.x) / 2, (now.y + other.y) / 2, frame);
  }

  lift(e, frame) {
    this.fingers.delete(e.pointerId);
    if (!this.fingers.size) frame.classList.remove("held");
  }
}
