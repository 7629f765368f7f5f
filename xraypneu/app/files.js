// The list of uploads while films are read: folded behind a button that says how far they are.
import { button, make } from "./dom.js";
import { UploadList } from "./upload.js";

// "12 files: 8 read, 1 not read, 3 to come"
export function progressOf(all, read, failed) {
  const parts = [[read, "read"], [failed, "not read"], [all - read - failed, "to come"]];
  const said = parts.filter(([n]) => n).map(([n, what]) => `${n} ${what}`);
  return `${all} ${all === 1 ? "file" : "files"}: ${said.join(", ")}`;
}

export class FileList extends UploadList {
  constructor() {
    super();
    this.box.id = "xp-files";
    Object.assign(this, { all: 0, read: 0, failed: 0, bytes: 0, sent: 0 });
    const folds = { class: "files", "aria-controls": "xp-files", "aria-expanded": "false" };
    this.fold = button("", () => this.toggle(), folds);
    this.total = make("progress", { "aria-label": "Upload of all files" });
    this.line = make("span", { class: "row sent" }, this.fold);
    this.tell();
  }

  toggle() {
    const open = this.fold.getAttribute("aria-expanded") === "false";
    this.fold.setAttribute("aria-expanded", open);
    this.box.classList.toggle("unfolded", open);
  }

  begin(file) {
    const item = Object.assign(super.begin(file), { size: file.size, got: 0 });
    this.all += 1;
    this.bytes += file.size;
    this.tell();
    return item;
  }

  progress(item, received) {
    super.progress(item, received);
    this.sent += received - item.got;
    item.got = received;
    this.total.value = this.sent;
  }

  end(item, text, bad) {
    super.end(item, text, bad);
    this.sent += item.size - item.got;
    item.got = item.size;
    if (bad) this.failed += 1;
    else this.read += 1;
    this.tell();
  }

  tell() {
    this.fold.textContent = progressOf(this.all, this.read, this.failed);
    this.line.hidden = !this.all;
    if (this.all > this.read + this.failed) {
      this.total.max = Math.max(this.bytes, 1);
      this.total.value = this.sent;
      this.line.append(this.total);
    } else this.total.remove();
  }

  clear() {
    super.clear();
    Object.assign(this, { all: 0, read: 0, failed: 0, bytes: 0, sent: 0 });
    this.tell();
  }
}
