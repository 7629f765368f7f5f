// The table as CSV. Python makes the cells of each row, so it alone decides on columns and escapes formulas.
// A move of the operating point sends only the rows with other reasons, so the threshold is set here in all of them.
// What the reader typed, and the labels, are not Python's: their columns come last, and the texts are made safe here,
// by Python's rule.
const READER = ["reader_verdict", "reader_comment", "truth"];

// A text that no spreadsheet executes: `_cell` of `serving/01_table`.
export function safe(text) {
  const plain = text.replaceAll("\r", "\ufffd").replace(/;(?=\s*[=+\-@])/g, ";'");
  return /^[=+\-@\t\n]/.test(plain) ? `'${plain}` : plain;
}

const readerCells = ({ reader, truth }) => [reader?.verdict ?? "", safe(reader?.comment ?? ""), truth ?? ""];
const quoted = (cell) => (/[",\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);

function cellsOf(row, at) {
  return row.cells.map((cell, i) => (i === at && !row.error ? row.threshold.toFixed(6) : cell));
}

// A header and a line per row, with the byte order mark without which Excel shows umlauts wrong.
export function csvOf(columns, rows) {
  const at = columns.indexOf("threshold");
  const lines = [[...columns, ...READER], ...rows.map((row) => [...cellsOf(row, at), ...readerCells(row)])];
  return "\ufeff" + lines.map((cells) => cells.map(quoted).join(",") + "\n").join("");
}

// What a file lacks that is saved while uploads are unfinished, or after their session was lost.
export const unread = (n) =>
  n ? ` Not read, and in no table, CSV or report: ${n} more ${n === 1 ? "file" : "files"}.` : "";

// Name of a CSV file saved now, in local time.
export function csvName(now) {
  const two = (n) => String(n).padStart(2, "0");
  const day = `${now.getFullYear()}${two(now.getMonth() + 1)}${two(now.getDate())}`;
  return `xraypneu-${day}-${two(now.getHours())}${two(now.getMinutes())}${two(now.getSeconds())}.csv`;
}
