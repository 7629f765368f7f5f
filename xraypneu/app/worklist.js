// The worklist: thumbnail, verdict and probability of each file, in the table's order and behind its filter.
import { cautionOf, kind, make, probabilityText, write } from "./dom.js";
import { said } from "./reader.js";

const NONE = "No file matches the filter.";

// Whether the film of a row can be opened: it was read, and the server still has it.
export const able = (row) => !row.error && !row.kept;

// The film `step` places after the open one among those that can be opened, or undefined at the end of the list.
export function neighbour(rows, open, step) {
  const films = rows.filter((row) => able(row) || row.id === open);
  const at = films.findIndex((row) => row.id === open);
  if (at < 0) return step > 0 ? films[0] : films.at(-1);
  return films[at + step];
}

// "3 of 8", or "8 films" while none is open.
export function positionOf(rows, open) {
  const films = rows.filter(able);
  const at = films.findIndex((row) => row.id === open);
  if (at >= 0) return `${at + 1} of ${films.length}`;
  return films.length === 1 ? "1 film" : `${films.length} films`;
}

// How far to scroll so that a part of a list is in view: 0 if it is already.
export function shiftTo(start, length, from, room) {
  if (start < from) return start - from;
  return Math.max(0, start + length - from - room);
}

// An item's extent with its neighbours' where there is room for them: one sees what comes next.
function withNeighbours(start, length, room) {
  const more = Math.max(0, Math.min(length, (room - length) / 2));
  return [start - more, length + 2 * more];
}

// A long name with its end, which tells UIDs apart; the item's title has all of it.
export const short = (name) => (name.length > 30 ? `${name.slice(0, 12)}…${name.slice(-14)}` : name);

// An item, and the parts of it that an operating point changes.
function itemOf(row) {
  const picture = row.thumb ? make("img", { src: row.thumb, alt: "", draggable: "false" }) : "";
  const [verdict, number, own] = [make("span"), make("span"), make("span", { class: "own" })];
  const box = make(
    "li",
    { role: "option", id: `xp-film-${row.id}`, "data-id": row.id, title: row.file, "aria-disabled": !able(row) && "true" },
    make("span", { class: "thumb" }, picture),
    make(
      "span",
      { class: "facts" },
      make("span", { class: "name" }, short(row.file)),
      make("span", { class: "outcome" }, verdict, number),
      own,
    ),
  );
  return { box, verdict, number, own, said: "", isNew: true };
}

export class Worklist {
  constructor({ open, filters }) {
    this.items = new Map(); // by id
    this.marked = null;
    const press = (e) => {
      const item = e.target.closest("[data-id]");
      if (item) open(item.dataset.id);
    };
    const list = { class: "scroll", role: "listbox", "aria-label": "Films", tabindex: "0", onclick: press };
    this.list = make("ul", list);
    new ResizeObserver(() => this.reveal()).observe(this.list);
    this.none = make("p", { class: "soft", hidden: true }, NONE);
    this.box = make(
      "section",
      { class: "worklist", "aria-labelledby": "xp-worklist" },
      make("h2", { id: "xp-worklist" }, "Worklist"),
      make("div", { class: "filters" }, ...filters),
      this.list,
      this.none,
    );
  }

  // A row is new, or came again.
  put(row) {
    this.items.get(row.id)?.box.remove();
    this.items.set(row.id, itemOf(row));
  }

  remove(id) {
    this.items.get(id)?.box.remove();
    this.items.delete(id);
  }

  // Bring the list in the order of these rows, with their verdicts; items that are in place stay untouched.
  show(rows) {
    let at = this.list.firstChild;
    let moved = 0;
    for (const row of rows) {
      const item = this.items.get(row.id);
      this.fill(item, row);
      if (item.box === at) at = at.nextSibling;
      else {
        this.list.insertBefore(item.box, at);
        moved += !item.isNew;
      }
      item.isNew = false;
    }
    while (at) {
      const rest = at.nextSibling;
      at.remove();
      at = rest;
    }
    this.none.hidden = rows.length > 0;
    this.list.hidden = !rows.length;
    this.point();
    if (moved > 1) this.reveal(); // another order or filter, not new films
  }

  fill(item, row) {
    const words = row.error ? "not read" : row.verdict;
    this.note(row);
    if (item.words === words) return;
    item.words = words;
    write(item.verdict, words);
    item.verdict.className = row.error ? "error" : `t-${kind(row.verdict)}`;
    write(item.number, row.probability == null ? "" : probabilityText(row.probability)); // the verdict is beside it
    item.number.title = row.error ? "" : cautionOf(row.verdict);
  }

  // The reader's verdict, or that there is a comment alone.
  note({ id, reader }) {
    const item = this.items.get(id);
    const words = said(reader);
    if (item.said === words) return;
    item.said = words;
    item.own.textContent = words && `you: ${reader.verdict || "comment"}`;
    item.own.title = words;
  }

  // Mark the open film.
  mark(id) {
    this.marked?.removeAttribute("aria-selected");
    this.marked = this.items.get(id)?.box;
    this.point();
    if (!this.marked) return;
    this.marked.setAttribute("aria-selected", "true");
    this.marked.classList.add("seen");
    this.reveal();
  }

  // Name the open film to screen readers, unless the filter hides it.
  point() {
    if (this.marked?.isConnected) this.list.setAttribute("aria-activedescendant", this.marked.id);
    else this.list.removeAttribute("aria-activedescendant");
  }

  // Bring the open film into view, and its neighbours, without moving the page.
  reveal() {
    if (!this.marked?.isConnected) return;
    const [frame, box] = [this.list.getBoundingClientRect(), this.marked.getBoundingClientRect()];
    this.list.scrollTop += shiftTo(...withNeighbours(box.top, box.height, frame.height), frame.top, frame.height);
    this.list.scrollLeft += shiftTo(...withNeighbours(box.left, box.width, frame.width), frame.left, frame.width);
  }

  clear() {
    this.items.clear();
    this.show([]);
  }
}
