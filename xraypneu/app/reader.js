// The reader's own verdict and comment on the open film. The page keeps them beside the model's; the server only stores
// them for another view of the session and for the report.
import { button, make } from "./dom.js";

export const OWN = ["NORMAL", "PNEUMONIA", "UNSURE"]; // in the order of their keys, 1 to 3
export const NOTHING = { verdict: "", comment: "" };
const LONGEST = 500; // characters of a comment

// The verdict after one was pressed: the same again takes it back.
export const pressed = (verdict, before) => (verdict === before ? "" : verdict);

// What a reader said, in one line: "UNSURE: compare with the film of May"
export const said = ({ verdict, comment } = NOTHING) => [verdict, comment].filter(Boolean).join(": ");

export class ReaderPanel {
  // `changed` takes what the reader says, `report` makes the report of the film with it, `remove` deletes the film
  constructor(changed, report, remove) {
    this.changed = changed;
    this.report = button("Report", () => report(), { class: "report", title: "Report of this film, to print (P)" });
    const deletes = { class: "remove", "aria-label": "Delete this film", title: "Delete this film (Del)" };
    this.remove = button("Delete", () => remove(), deletes);
    this.own = NOTHING;
    this.presses = OWN.map((verdict, i) =>
      button(verdict, () => this.choose(verdict), { "data-own": verdict, title: `${verdict} (${i + 1})` }),
    );
    this.comment = make("input", {
      type: "text",
      id: "xp-comment",
      maxlength: LONGEST,
      autocomplete: "off",
      placeholder: "comment (C)",
      "aria-label": "Your comment",
      oninput: () => this.tell({ comment: this.comment.value }),
      onkeydown: (e) => this.leave(e),
    });
    this.box = make(
      "section",
      { class: "reader", "aria-labelledby": "xp-reader" },
      make("div", { class: "row head" }, make("h3", { id: "xp-reader" }, "Your reading"), this.report, this.remove),
      make("div", { class: "joined", role: "group", "aria-labelledby": "xp-reader" }, ...this.presses),
      this.comment,
    );
    this.show(NOTHING);
  }

  // Enter and Escape leave the comment, so that the next key opens the next film.
  leave(e) {
    if (e.isComposing || (e.key !== "Enter" && e.key !== "Escape")) return;
    e.preventDefault();
    this.comment.blur();
  }

  choose(verdict) {
    this.tell({ verdict: pressed(verdict, this.own.verdict) });
  }

  tell(change) {
    this.show({ ...this.own, ...change });
    this.changed(this.own);
  }

  show(own = NOTHING) {
    this.own = own;
    for (const press of this.presses) press.setAttribute("aria-pressed", press.dataset.own === own.verdict);
    if (this.comment.value !== own.comment) this.comment.value = own.comment; // else the cursor would jump
    this.box.classList.toggle("none", !said(own));
  }
}
