// The table of all files. Rows are appended or changed one by one; the table is never rebuilt.
import { button, cautionOf, kind, make, probabilityText, write } from "./dom.js";
import { said } from "./reader.js";

const COLUMNS = [
  ["n", "#"],
  ["file", "file"],
  ["verdict", "verdict"],
  ["probability", "probability"],
  ["threshold", "operating point"],
  ["bundle", "model"],
  ["reader", "reader"],
  ["truth", "label"],
];
const NUMBERS = ["probability", "threshold"];
const VERDICTS = ["NORMAL", "PNEUMONIA", "UNSURE", "OUT OF SCOPE", "NOT A CHEST X-RAY", "not read"];

const GONE = "film deleted";

export const outcome = (row) => row.verdict || "not read";
// What the cell of the probability says: the number, and a caution where it was measured on no such films.
export const numberOf = ({ probability, verdict }) =>
  probability == null ? ["", ""] : [probabilityText(probability), cautionOf(verdict)];

function value(row, key) {
  if (key === "verdict") return outcome(row);
  if (key === "reader") return said(row.reader);
  return row[key] == null ? (NUMBERS.includes(key) ? -1 : "") : row[key];
}

// Compares two rows; equal ones are ordered by arrival.
export const compare = (order) => (a, b) => {
  const [x, y] = [value(a, order.key), value(b, order.key)];
  return (x > y ? 1 : x < y ? -1 : a.n - b.n) * (order.down ? -1 : 1);
};

export const matches = (row, text, verdict) =>
  row.file.toLowerCase().includes(text.toLowerCase()) && (!verdict || outcome(row) === verdict);

// Index at which a row belongs among sorted ones.
export function place(sorted, row, before) {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (before(sorted[middle], row) > 0) high = middle;
    else low = middle + 1;
  }
  return low;
}

// The verdict to show alone after this one: the next that a file has, then "" for all.
export function nextVerdict(only, counts) {
  const having = ["", ...VERDICTS.filter((v) => counts.get(v))];
  return having[(having.indexOf(only) + 1) % having.length];
}

// "3 of 4 files: 1 NORMAL, 2 UNSURE, 1 not read"
export const summary = (shown, total, counts) => `${shown} of ${total} files: ${tallyOf(counts)}`;

export const tallyOf = (counts) =>
  VERDICTS.filter((v) => counts.get(v))
    .map((v) => `${counts.get(v)} ${v}`)
    .join(", ");

// Name of the button that opens a row: of files with one name, the later ones have their number in it.
export function opens(row, rows) {
  const again = [...rows].some((r) => r.file === row.file && r.n < row.n);
  return `Open ${row.file}${again ? `, number ${row.n}` : ""}`;
}

// The roles of a table, which a browser may forget where styles make a grid of it.
const cell = (...content) => make("td", { role: "cell" }, ...content);
const heading = (...content) => make("th", { scope: "col", role: "columnheader" }, ...content);

export class Table {
  constructor(state, onopen, oncount) {
    Object.assign(this, { state, onopen, oncount, order: { key: "n", down: false }, lines: new Map(), shown: [] });
    const again = () => this.arrange();
    this.filter = make("input", {
      type: "search",
      "aria-label": "Filter by file name",
      placeholder: "file name",
      oninput: again,
    });
    this.only = make(
      "select",
      { "aria-label": "Show only this verdict", onchange: again },
      make("option", { value: "" }, "all verdicts"),
      ...VERDICTS.map((v) => make("option", { value: v }, v)),
    );
    this.counted = make("p", { class: "soft" });
    this.heads = new Map(COLUMNS.map(([key, label]) => [key, this.head(key, label)]));
    this.body = make("tbody", { role: "rowgroup" });
    const row = make("tr", { role: "row" }, ...[...this.heads.values()].map((h) => h.cell), heading("open"));
    this.box = make(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of the results" },
      make("table", { role: "table" }, make("thead", { role: "rowgroup" }, row), this.body),
    );
    this.mark();
  }

  head(key, label) {
    const sort = () => {
      this.order = { key, down: this.order.key === key && !this.order.down };
      this.mark();
      this.arrange();
    };
    const press = button(label, sort, { "data-key": `sort-${key}` });
    return { label, press, cell: heading(press) };
  }

  // Mark the sorted column.
  mark() {
    for (const [key, { label, press, cell }] of this.heads) {
      const mine = key === this.order.key;
      cell.setAttribute("aria-sort", mine ? (this.order.down ? "descending" : "ascending") : "none");
      press.textContent = label + (mine ? (this.order.down ? " ▾" : " ▴") : "");
    }
  }

  matches(row) {
    return matches(row, this.filter.value, this.only.value);
  }

  // Add rows, or replace them.
  put(...ids) {
    for (const id of ids) this.putLine(id);
    this.count();
  }

  putLine(id) {
    const row = this.state.rows.get(id);
    const before = this.lines.get(id);
    if (before) {
      before.remove();
      this.shown = this.shown.filter((r) => r.id !== id);
    }
    const line = this.line(row);
    this.lines.set(id, line);
    if (id === this.state.open) this.markOpen();
    if (!this.matches(row)) return;
    const at = place(this.shown, row, compare(this.order));
    const follower = this.shown[at];
    this.body.insertBefore(line, follower ? this.lines.get(follower.id) : null);
    this.shown.splice(at, 0, row);
  }

  // Rows that are gone.
  remove(ids) {
    for (const id of ids) this.lines.delete(id);
    if (ids.length) this.arrange();
  }

  line(row) {
    if (row.error) {
      const why = make("span", { class: "error" }, `not read: ${row.error}`);
      const cells = [String(row.n), row.file, why, "", "", "", "", row.truth ?? "", ""].map((c) => cell(c));
      cells[1].className = "name";
      return make("tr", { role: "row", class: "unread" }, ...cells);
    }
    const [number, caution] = numberOf(row);
    const named = { type: "button", "data-key": `open-${row.id}`, "aria-label": opens(row, this.state.rows.values()) };
    const open = row.kept ? make("span", { class: "soft" }, GONE) : make("button", named, "Open");
    // the button in the row needs no handler: its click, by mouse or key, bubbles up to here
    const line = make(
      "tr",
      {
        role: "row",
        class: row.kept ? "" : "can-open",
        onclick: () => this.onopen(this.state.rows.get(row.id)),
      },
      cell(String(row.n)),
      make("td", { class: "name", role: "cell" }, row.file),
      cell(make("span", {}, "")),
      cell(number, caution && make("span", { class: "words caution" }, caution)),
      cell(""),
      cell(row.bundle.slice(0, 8)),
      make("td", { class: "own", role: "cell" }),
      cell(row.truth ?? ""),
      cell(open),
    );
    this.fill(line, row);
    this.fillReading(line, row);
    return line;
  }

  // Update what depends on the operating point in a row; texts that are the same stay untouched.
  fill(line, row) {
    const verdict = line.children[2].firstChild;
    if (verdict.textContent !== row.verdict) verdict.className = `t-${kind(row.verdict)}`;
    write(verdict, row.verdict);
    write(line.children[4], row.threshold?.toFixed(3) ?? "");
  }

  fillReading(line, { reader }) {
    const { verdict: own, comment } = reader ?? {};
    line.children[6].replaceChildren(own ?? "", comment ? make("span", { class: "words" }, comment) : "");
  }

  // The labels of the visitor's table, by id; their column shows while there are some.
  label(labels) {
    for (const row of this.state.rows.values()) {
      row.truth = labels[row.id];
      write(this.lines.get(row.id).children[7], row.truth ?? "");
    }
    this.box.classList.toggle("labelled", Object.keys(labels).length > 0);
    if (this.order.key === "truth") this.arrange();
  }

  // The reader said something of a film.
  note(id) {
    this.fillReading(this.lines.get(id), this.state.rows.get(id));
  }

  // The operating point moved: rows keep their places unless the verdict orders or filters them.
  changed() {
    for (const row of this.state.rows.values()) if (!row.error) this.fill(this.lines.get(row.id), row);
    if (this.order.key === "verdict" || this.only.value) this.arrange();
    else this.count();
  }

  // Mark the film that is open.
  markOpen() {
    this.marked?.classList.remove("open");
    this.marked = this.lines.get(this.state.open);
    this.marked?.classList.add("open");
  }

  // Without a server no other film can be opened: the rows say so until it answers again.
  setLost(lost) {
    for (const row of this.state.rows.values()) {
      if (row.error || row.kept) continue;
      const press = this.lines.get(row.id).querySelector("button");
      const label = !lost ? "Open" : row.id === this.state.open ? "shown" : "can't be opened";
      press.textContent = label;
      press.disabled = lost;
      press.setAttribute("aria-label", lost ? `${row.file}: ${label}` : opens(row, this.state.rows.values()));
    }
  }

  // Apply another order or filter: the same lines are moved.
  arrange() {
    const focus = this.body.contains(document.activeElement) ? document.activeElement : null;
    this.shown = [...this.state.rows.values()].filter((row) => this.matches(row)).sort(compare(this.order));
    this.body.replaceChildren(...this.shown.map((row) => this.lines.get(row.id)));
    if (focus && focus.isConnected) focus.focus();
    this.count();
  }

  count() {
    this.counted.textContent = summary(this.shown.length, this.state.rows.size, this.state.counts());
    this.oncount(this.shown.length, this.state.rows.size);
  }

  clear() {
    this.lines.clear();
    this.arrange();
  }
}
