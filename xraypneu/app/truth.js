// The visitor's own labels against the verdicts: confusion matrix, sensitivity and specificity with their intervals.
import { button, clean, make, percent } from "./dom.js";

const HOW =
  "A CSV with the columns file and label (NORMAL or PNEUMONIA, or 0 or 1) shows how often the verdicts on these " +
  "films are right. Drop it anywhere, or choose it. It stays in this session, and goes with it.";
const LABELLED = ["NORMAL", "PNEUMONIA"]; // rows and columns, as in the reports

export const isTable = (file) => /\.csv$/i.test(file.name);

// The outcomes that are columns: both classes, and what else occurred.
export const columnsOf = ({ matrix }) =>
  Object.keys(matrix.NORMAL).filter((o) => LABELLED.includes(o) || LABELLED.some((c) => matrix[c][o]));

const headed = (...names) => make("thead", {}, make("tr", {}, ...names.map((n) => make("th", { scope: "col" }, n))));
const rowOf = (name, ...cells) =>
  make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((c) => make("td", {}, c)));

// The rows: a class and its films by outcome; correct verdicts are on the diagonal.
export const rowsOf = (found) =>
  LABELLED.map((c) => [c, ...columnsOf(found).map((o) => String(found.matrix[c][o]))]);

function matrixOf(found) {
  const columns = columnsOf(found);
  const lines = rowsOf(found).map((cells) => rowOf(...cells));
  const caption = make("caption", {}, "Films by label (rows) and verdict (columns)");
  return make("table", { class: "matrix" }, caption, headed("label", ...columns), make("tbody", {}, ...lines));
}

function ratesOf({ rates }) {
  const range = (r) => (r.of ? `${percent(r.low)} to ${percent(r.high)}` : "–");
  const lines = rates.map((r) =>
    rowOf(r.name, r.of ? `${r.hit} of ${r.of}` : "no film", percent(r.value), range(r)),
  );
  const heads = headed("rate", "films", "value", "95 % interval");
  return make("table", { "aria-label": "Rates of these films" }, heads, make("tbody", {}, ...lines));
}

export class TruthPanel {
  constructor({ ask, say, most }) {
    Object.assign(this, { ask, say, most, active: false });
    const choose = () => {
      this.take([...input.files]);
      input.value = "";
    };
    const input = make("input", { type: "file", accept: ".csv,text/csv", hidden: true, onchange: choose });
    this.wrong = make("p", { class: "error", role: "alert" });
    const region = { class: "scroll", tabindex: "0", role: "region", "aria-label": "Comparison with your labels" };
    this.found = make("div", { ...region, hidden: true });
    this.box = make(
      "section",
      { class: "card truth", "aria-labelledby": "xp-truth", hidden: true },
      make("h2", { id: "xp-truth" }, "Verdicts against your labels"),
      make("p", { class: "soft" }, HOW),
      make("p", {}, button("Choose labels", () => input.click(), { class: "labels" }), input),
      this.wrong,
      this.found,
    );
  }

  // A table was chosen or dropped. What can't be a table is refused here, with the words in which Python would.
  async take(files) {
    if (!files.length) return;
    if (files.length > 1) return this.refuse(`${files.length} tables were given. Choose one.`);
    const [file] = files;
    const most = this.most.toLocaleString("en");
    const large = `${clean(file.name)} has more than ${most} characters. Keep the lines of these films alone.`;
    if (file.size > 4 * this.most) return this.refuse(large);
    let text, bytes;
    try {
      bytes = await file.arrayBuffer();
      text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      return this.refuse(`${clean(file.name)} is not UTF-8 text. Save it again as CSV (UTF-8).`);
    }
    if (text.length > this.most) return this.refuse(large);
    this.file = clean(file.name);
    this.ask({ kind: "truth" }, [bytes]);
  }

  refuse(why) {
    this.box.hidden = false;
    this.wrong.textContent = `Labels not read: ${why}`;
    this.say(this.wrong.textContent);
    this.box.scrollIntoView({ block: "nearest" });
  }

  // The server's answer: a problem, which leaves what is shown, or the comparison.
  show({ problem, found }) {
    if (problem) return this.refuse(this.file ? `${this.file}: ${problem}` : problem);
    this.wrong.textContent = "";
    this.active = found !== null;
    this.found.hidden = !found;
    if (!found) return this.found.replaceChildren();
    this.box.hidden = false; // labels may come before the films
    const cover = make("p", {}, found.cover);
    if (!found.films) return this.found.replaceChildren(cover);
    this.found.replaceChildren(cover, matrixOf(found), ratesOf(found), make("p", { class: "soft" }, found.caveat));
  }

  clear() {
    this.show({ problem: "", found: null });
    this.box.hidden = true;
  }
}
