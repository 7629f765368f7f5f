// Dark or light: as the system asks, or as the user chose. The stylesheet follows `data-theme` of the root element.
import { button } from "./dom.js";

const OTHER = { dark: "light", light: "dark" };

// The choice after this one: from "system", first what looks different.
export function nextTheme(choice, system) {
  if (choice === "system") return OTHER[system];
  return choice === system ? "system" : system;
}

export class Theme {
  constructor(root, media, memory) {
    Object.assign(this, { root, media, memory });
    const kept = memory.recall("theme");
    this.choice = kept in OTHER ? kept : "system";
    this.press = button("", () => this.change(), { class: "theme", title: "Change the theme (T)" });
    this.apply();
  }

  get system() {
    return this.media.matches ? "dark" : "light";
  }

  change() {
    this.choice = nextTheme(this.choice, this.system);
    this.memory.keep("theme", this.choice === "system" ? "" : this.choice);
    this.apply();
  }

  apply() {
    this.root.dataset.theme = this.choice === "system" ? this.system : this.choice;
    this.press.textContent = `Theme: ${this.choice}`;
  }

  // Follow the system from now on. Returns how to stop.
  follow() {
    const again = () => this.apply();
    this.media.addEventListener("change", again);
    return () => this.media.removeEventListener("change", again);
  }
}
