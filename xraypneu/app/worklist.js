// The worklist: thumbnail, verdict and probability of each file, in the table's order and behind its filter.
import { kind, make } from "./dom.js";

const NONE = "No file matches the filter.";

// The film `step` places after the open one among those that can be opened, or undefined at the end of the list.
export function neighbour(rows, open, step) {
  const able = rows.filter((row) => !row.error || row.id === open);
  const at = able.findIndex((row) => row.id === open);
  if (at < 0) return step > 0 ? able[0] : able.at(-1);
  return able[at + step];
}

// "3 of 8", or "8 films" while none is open.
export function positionOf(rows, open) {
  const able = rows.filter((row) => !row.error);
  const at = able.findIndex((row) => row.id === open);
  return at < 0 ? `${able.length} films` : `${at + 1} of ${able.length}`;
}

// How far to scroll so that a part of a list is in view: 0 if it is already.
export function shiftTo(start, length, from, room) {
  if (start < from) return start - from;
  return Math.max(0, start + length - from - room);
}

function itemOf(row) {
  const picture = row.thumb ? make("img", { src: row.thumb, alt: "", draggable: "false" }) : "";
  return make(
    "li",
    { role: "option", id: `xp-film-${row.id}`, "data-id": row.id, title: row.file, "aria-disabled": !!row.error },
    make("span", { class: "thumb" }, picture),
    make(
      "span",
      { class: "facts" },
      make("span", { class: "name" }, row.file),
      make("span", { class: "outcome" }, make("span", {}), make("span", { class: "number" })),
    ),
  );
}

export class Worklist {
  constructor({ open, filters }) {
    this.items = new Map(); // by id: the row's item
    const press = (e) => {
      const item = e.target.closest("[data-id]");
      if (item) open(item.dataset.id);
    };
    this.list = make("ul", { class: "scroll", role: "listbox", "aria-label": "Films", tabindex: "0", onclick: press });
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
    this.items.get(row.id)?.remove();
    this.items.set(row.id, itemOf(row));
  }

  // Bring the list in the order of these rows, with their verdicts; items that are in place stay untouched.
  show(rows) {
    let at = this.list.firstChild;
    for (const row of rows) {
      const item = this.items.get(row.id);
      this.fill(item, row);
      if (item === at) at = at.nextSibling;
      else this.list.insertBefore(item, at);
    }
    while (at) {
      const rest = at.nextSibling;
      at.remove();
      at = rest;
    }
    this.none.hidden = rows.length > 0;
    this.list.hidden = !rows.length;
  }

  fill(item, row) {
    const [verdict, number] = item.querySelector(".outcome").children;
    const words = row.error ? "not read" : row.verdict;
    if (verdict.textContent === words) return;
    verdict.textContent = words;
    verdict.className = row.error ? "error" : `t-${kind(row.verdict)}`;
    number.textContent = row.probability == null ? "" : row.probability.toFixed(3);
  }

  // Mark the open film and bring it into view, without moving the page.
  mark(id) {
    for (const item of this.list.querySelectorAll("[aria-selected=true]")) item.removeAttribute("aria-selected");
    const item = this.items.get(id);
    if (!item) return this.list.removeAttribute("aria-activedescendant");
    item.setAttribute("aria-selected", "true");
    item.classList.add("seen");
    this.list.setAttribute("aria-activedescendant", item.id);
    const [frame, box] = [this.list.getBoundingClientRect(), item.getBoundingClientRect()];
    this.list.scrollTop += shiftTo(box.top, box.height, frame.top, frame.height);
    this.list.scrollLeft += shiftTo(box.left, box.width, frame.left, frame.width);
  }

  clear() {
    this.items.clear();
    this.show([]);
  }
}
