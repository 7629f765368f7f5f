// The list of keys, and whether single letters are keys at all: speech input and screen readers may press them unasked.
import { button, make } from "./dom.js";
import { KEYS } from "./keys.js";

const line = ([key, other, does]) =>
  make(
    "tr",
    {},
    make("th", { scope: "row" }, make("kbd", {}, key), ...(other ? [" ", make("kbd", {}, other)] : [])),
    make("td", {}, does),
  );

export class Help {
  constructor(memory) {
    this.memory = memory;
    this.letters = memory.recall("letters") !== "off";
    const named = { class: "help", title: "Keyboard help (?)", "aria-haspopup": "dialog" };
    this.press = button("Keys", () => this.open(), named);
    this.box = make("dialog", { class: "keys", "aria-labelledby": "xp-keys" });
    this.wanted = make("input", { type: "checkbox", id: "xp-letters", onchange: () => this.want() });
    this.wanted.checked = this.letters;
    this.lay();
  }

  lay() {
    const close = button("Close", () => this.box.close(), { class: "close", autofocus: true });
    const lines = make("tbody", {}, ...KEYS.map(line));
    const off = "Turn this off where speech input or a screen reader presses letters. Arrow keys go on working.";
    this.box.append(
      make("div", { class: "row head" }, make("h2", { id: "xp-keys" }, "Keys"), close), // on top: it has the focus
      make("div", { class: "list" }, make("table", { "aria-labelledby": "xp-keys" }, lines)),
      make("p", {}, make("label", { for: "xp-letters" }, this.wanted, "Single-letter keys")),
      make("p", { class: "soft" }, off),
    );
  }

  want() {
    this.letters = this.wanted.checked;
    this.memory.keep("letters", this.letters ? "" : "off");
  }

  open() {
    this.box.showModal();
  }
}
