// The list of uploads while films are read: folded behind a button that says how far they are.
import { button, make } from "./dom.js";
import { Gatherer } from "./gather.js";
import { Pace, UploadList } from "./upload.js";

// "about 2 min left"; nothing where the pace is not known yet
export function timeOf(seconds) {
  if (seconds == null) return "";
  if (seconds < 55) return `about ${Math.max(10, 10 * Math.round(seconds / 10))} s left`;
  if (seconds < 3570) return `about ${Math.round(seconds / 60)} min left`;
  return `about ${(seconds / 3600).toFixed(1)} h left`;
}

// "37 of 120, about 2 min left" while files are read, then "12 files: 8 read, 1 not read, 3 cancelled"
export function progressOf({ all, read, failed, cancelled = 0 }, seconds = null) {
  const ended = read + failed + cancelled;
  const left = timeOf(seconds);
  if (ended < all) return `${ended} of ${all}` + (left ? `, ${left}` : "");
  const said = [[read, "read"], [failed, "not read"], [cancelled, "cancelled"]];
  const parts = said.filter(([n]) => n).map(([n, what]) => `${n} ${what}`);
  return `${all} ${all === 1 ? "file" : "files"}: ${parts.join(", ")}`;
}

const UNBEGUN = { all: 0, read: 0, failed: 0, cancelled: 0, bytes: 0, sent: 0 };

export class FileList extends UploadList {
  constructor(cancel) {
    super();
    this.box.id = "xp-files";
    Object.assign(this, UNBEGUN, { pace: new Pace(() => Date.now()), teller: new Gatherer(() => this.draw()) });
    this.waiting = []; // changes of items that are not drawn yet, in their order
    const folds = { class: "files", "aria-controls": "xp-files", "aria-expanded": "false" };
    this.fold = button("", () => this.toggle(), folds);
    this.total = make("progress", { "aria-label": "Upload of all files" });
    this.stop = button("Cancel the rest", cancel, { class: "cancel-rest" });
    this.tally = make("span", { class: "tally" }); // how many films have each verdict
    this.line = make("span", { class: "row sent" }, this.fold, this.tally);
    this.draw();
  }

  toggle() {
    const open = this.fold.getAttribute("aria-expanded") === "false";
    this.fold.setAttribute("aria-expanded", open);
    this.box.classList.toggle("unfolded", open);
  }

  begin(file) {
    const item = Object.assign(super.begin(file), { size: file.size, got: 0 });
    if (!this.coming) this.pace.begin();
    this.all += 1;
    this.bytes += file.size;
    this.tell();
    return item;
  }

  progress(item, received) {
    this.waiting.push(() => super.progress(item, received));
    this.sent += received - item.got;
    item.got = received;
    this.tell();
  }

  end(item, text, bad) {
    this.waiting.push(() => super.end(item, text, bad));
    this.sent += item.size - item.got;
    item.got = item.size;
    if (bad) this.failed += 1;
    else this.read += 1;
    this.pace.ended();
    this.tell();
  }

  cancel(item) {
    super.cancel(item);
    this.bytes -= item.size - item.got;
    this.cancelled += 1;
    this.tell();
  }

  get coming() {
    return this.all - this.read - this.failed - this.cancelled;
  }

  // How far the files are; that of all at once.
  tell() {
    if (this.coming) this.teller.ask();
    else this.teller.now();
  }

  draw() {
    for (const change of this.waiting.splice(0)) change();
    this.fold.textContent = progressOf(this, this.pace.left(this.coming));
    this.line.hidden = !this.all;
    this.box.tabIndex = this.all ? 0 : -1; // a long list scrolls, by keyboard too
    if (this.coming) {
      this.total.max = Math.max(this.bytes, 1);
      this.total.value = this.sent;
      this.line.insertBefore(this.total, this.tally);
      this.line.insertBefore(this.stop, this.tally);
      return;
    }
    if (document.activeElement === this.stop) this.fold.focus();
    this.total.remove();
    this.stop.remove();
  }

  clear() {
    super.clear();
    this.waiting = [];
    Object.assign(this, UNBEGUN);
    this.tell();
  }
}
