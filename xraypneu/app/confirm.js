// Asks in a modal dialog whether to do what cannot be undone. Escape cancels.
import { button, make } from "./dom.js";

export class Confirm {
  constructor() {
    this.box = make("dialog", { class: "confirm", "aria-labelledby": "xp-confirm" });
  }

  ask(question, consequence, action, go) {
    const agree = () => {
      this.box.close();
      go();
    };
    this.box.replaceChildren(
      make("h2", { id: "xp-confirm" }, question),
      make("p", {}, consequence),
      make(
        "div",
        { class: "row" },
        button("Cancel", () => this.box.close(), { class: "cancel", autofocus: true }),
        button(action, agree, { class: "danger agree" }),
      ),
    );
    this.box.showModal();
  }
}
