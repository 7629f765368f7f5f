// Keeps the results in this tab if the visitor asks for it: they outlast a reload, Back and a lost server. What is kept
// are names, verdicts and what the reader said, never a picture. The browser drops it with the tab, unless it reopens it.
import { make } from "./dom.js";

const FORM = 1; // of what is kept; of another form nothing is taken
const REST = 500; // milliseconds from a change until results are written
const OFFER = "Keep these results in this tab, also after a reload";
const WHAT =
  "File names, verdicts and your readings, no pictures. Delete all deletes them; so does closing the tab, unless the " +
  "browser reopens it.";
const FULL = "Not kept: the browser has no room for them. Save the CSV.";

// The rows of an earlier page as rows of this one. Their films are gone; where an id is taken, the server would mean
// another film by it.
export function restored(text) {
  try {
    const { form, rows } = JSON.parse(text);
    return form === FORM ? rows.map((row, i) => ({ ...row, was: row.id, id: `kept-${i}`, kept: true })) : [];
  } catch {
    return []; // nothing was kept, or no longer what was
  }
}

// The whole file name of a kept result: that of the table may be shortened, and that of the CSV is made safe.
export const nameOfKept = ({ file, cells }) => (file.includes("…") ? (cells?.[0] ?? file) : file);

// What is kept of rows: all but what shows a film, and the labels, which are compared anew.
export function keepable(rows, unsaved) {
  const kept = [...rows].map(({ thumb, truth, n, ...row }) => ({ ...row, unsaved: unsaved.has(row.id) }));
  return JSON.stringify({ form: FORM, rows: kept });
}

export class Keeper {
  constructor(memory, state) {
    Object.assign(this, { memory, state, timer: null });
    this.tick = make("input", { type: "checkbox", onchange: () => this.write(true) });
    this.tick.checked = memory.recall("keep") === "1";
    this.what = make("span", { class: "words" }, WHAT);
    this.box = make("label", { class: "soft keep" }, this.tick, " ", OFFER, this.what);
  }

  // The rows of this tab's earlier page.
  recall() {
    return this.tick.checked ? restored(this.memory.recall("results")) : [];
  }

  // A row, a reading or a verdict is new. In a long batch none waits for the last one.
  changed() {
    this.timer ??= setTimeout(() => this.write(), REST);
  }

  // Without the tick nothing is touched, unless it was just taken off: another view of the session may keep results.
  write(ticked = false) {
    clearTimeout(this.timer);
    this.timer = null;
    const on = this.tick.checked;
    if (!on && !ticked) return;
    const text = on && this.state.rows.size ? keepable(this.state.rows.values(), this.state.unsaved) : "";
    const held = this.memory.keep("keep", on ? "1" : "") && this.memory.keep("results", text);
    this.what.textContent = on && !held ? FULL : WHAT;
    this.what.classList.toggle("error", on && !held);
  }

  // Write what has not been written when the page ends. Returns how to stop.
  follow(target) {
    const write = () => this.write();
    target.addEventListener("pagehide", write);
    return () => target.removeEventListener("pagehide", write);
  }
}
