// Uploads one file after the other, in pieces, a few pieces ahead of the server's acknowledgements, and the next file
// while the server reads one.
import { clean, make, size } from "./dom.js";

const AHEAD = 4; // pieces
const UNREAD = 1; // files that the server has whole and has not read while the next is sent
const SMALLEST = 65536; // bytes of a piece
const [FAST, SLOW] = [500, 4000]; // milliseconds to an acknowledgement: below, pieces grow; above, they shrink
const [FEWEST, WINDOW] = [4, 20]; // times from which the pace is told
const CANCELLED = "cancelled";
const CUT = "the connection was interrupted. Choose the file again.";

export class Uploader {
  constructor({ send, ping, chunk, maxBytes, view, mark = "" }) {
    Object.assign(this, { send, ping, chunk, maxBytes, view, queue: [], active: new Map(), counter: 0, busy: false });
    Object.assign(this, { stops: 0, found: 0 }); // how often all was cancelled or deleted; archives being read
    this.prefix = mark && `${mark}-`; // in a notebook a session may have several views, each with its own count
    this.piece = Math.min(SMALLEST, chunk); // on a slow line large ones would delay all other messages
  }

  // Number of files without a result yet.
  get pending() {
    return this.queue.length + this.active.size;
  }

  take(files) {
    for (const file of files) this.queue.push({ id: `u${this.prefix}${++this.counter}`, file, item: this.view.begin(file) });
    this.next();
  }

  async next() {
    if (this.busy) return;
    this.busy = true;
    while (this.queue.length) {
      if (this.crowded) {
        await new Promise((done) => {
          this.freed = done;
        });
        continue;
      }
      const job = this.queue.shift();
      this.active.set(job.id, job);
      const why = this.unfit(job.file) || (job.file.open ? await this.unpack(job) : "");
      if (job.forgotten || job.why) continue; // deleted or cancelled while it was unpacked
      if (why) this.refuse(job, why);
      else await this.put(job).catch(() => this.refuse(job, "the browser can't read this file"));
    }
    this.busy = false;
  }

  // Whether the server has as many files to read as it may: it never waits for one, and whatever else the page asks for
  // comes after two films, not after all.
  get crowded() {
    return [...this.active.values()].filter((job) => !job.ended && !job.refused).length > UNREAD;
  }

  // The films that a promise finds, as in an archive; null if all was cancelled or deleted meanwhile.
  async unlessStopped(films) {
    const { stops } = this;
    this.found += 1;
    const found = await films;
    if (stops !== this.stops) return null;
    this.found -= 1;
    return found;
  }

  // Whatever is still on its way must not go on. Returns how many archives were being read.
  stopAll() {
    const { found } = this;
    Object.assign(this, { stops: this.stops + 1, found: 0 });
    return found;
  }

  unfit(file) {
    if (file.size === 0) return "the file is empty";
    if (file.size > this.maxBytes) return `${size(file.size)} is over the limit of ${size(this.maxBytes)}`;
    return "";
  }

  // A film in an archive is unpacked when it is its turn: two lie in memory at a time. Returns why it can't be.
  async unpack(job) {
    const { name, open } = job.file;
    try {
      job.file = Object.assign(await open(), { name });
      return "";
    } catch (e) {
      return e.message;
    }
  }

  // The server answers with a row, for which the page waits as for any other file.
  refuse(job, why) {
    if (job.forgotten) return;
    this.view.end(job.item, why, true);
    Object.assign(job, { refused: true, why });
    job.sealed = this.ping();
    this.send({ kind: "refused", id: job.id, name: job.file.name, why });
  }

  async put(job) {
    const { id, file } = job;
    Object.assign(job, { taken: 0, sent: 0, since: new Map(), ended: false, sealed: Infinity, wake: () => {} });
    this.send({ kind: "begin", id, name: file.name, size: file.size });
    while (job.sent < file.size && !job.ended) {
      const at = job.sent;
      const piece = await file.slice(at, at + this.piece).arrayBuffer();
      while (at - job.taken > AHEAD * this.piece && !job.ended) await this.answer(job);
      if (job.ended) break;
      this.send({ kind: "chunk", id, at }, [piece]);
      job.sent = at + piece.byteLength;
      job.since.set(job.sent, Date.now());
      job.sealed = this.ping();
    }
  }

  answer(job) {
    return new Promise((done) => {
      const timer = setTimeout(done, 1000);
      job.wake = () => {
        clearTimeout(timer);
        done();
      };
    });
  }

  ack(id, received) {
    const job = this.active.get(id);
    if (!job) return;
    job.taken = received;
    this.pace(Date.now() - job.since.get(received));
    this.view.progress(job.item, received);
    job.wake();
  }

  pace(took) {
    if (took < FAST) this.piece = Math.min(this.chunk, 2 * this.piece);
    if (took > SLOW) this.piece = Math.max(Math.min(SMALLEST, this.chunk) / 4, Math.floor(this.piece / 2));
  }

  // End an upload: it has a row or an error, or it was lost. True if it was one of this page's.
  end(id, text, bad) {
    const job = this.active.get(id);
    if (!job) return false;
    this.active.delete(id);
    if (!job.refused) this.view.end(job.item, text, bad);
    this.stop(job);
    return true;
  }

  stop(job) {
    job.ended = true;
    if (job.wake) job.wake();
    this.freed?.();
  }

  // The server does not know an upload of which it got a piece: its beginning was lost.
  gone(id) {
    const job = this.active.get(id);
    if (job && !job.ended) this.giveUp(job);
  }

  // The server answered ping n: earlier pieces without an answer were lost, or their answers were.
  // Only the server knows whether it has the film: it answers with the film's row, or ends the upload.
  pong(n) {
    const lost = [...this.active.values()].filter(
      (job) => n > job.sealed && (job.refused || job.ended || job.taken < job.sent || job.sent >= job.file.size),
    );
    for (const job of lost) this.giveUp(job);
  }

  giveUp(job) {
    this.stop(job);
    job.sealed = this.ping();
    this.send({ kind: "refused", id: job.id, name: job.file.name, why: job.why || CUT });
  }

  // Read none of the files that are still to come; a file of which the server has all is read. Returns how many.
  cancel() {
    const waiting = this.queue.splice(0);
    for (const job of waiting) this.view.cancel(job.item);
    const begun = [...this.active.values()].filter((job) => !job.refused && !(job.sent >= job.file.size));
    for (const job of begun) this.giveUp(Object.assign(job, { why: CANCELLED }));
    return waiting.length + begun.length + this.stopAll();
  }

  // Stop all uploads now: a file begun after the delete request would be kept, one chosen after it dropped.
  forget() {
    this.stopAll();
    this.queue.splice(0);
    for (const job of this.active.values()) {
      job.forgotten = true;
      this.stop(job);
    }
    this.active.clear();
  }
}

// How long files still take, by the pace of the last ones: sizes, line and server change.
export class Pace {
  constructor(now) {
    Object.assign(this, { now, times: [] });
  }

  begin() {
    this.times = [this.now()];
  }

  ended() {
    this.times = [...this.times, this.now()].slice(-WINDOW);
  }

  // Seconds for so many more files; null while too few have ended to tell.
  left(files) {
    const { times } = this;
    if (times.length < FEWEST || !files) return null;
    return (files * (times.at(-1) - times[0])) / (times.length - 1) / 1000;
  }
}

// The list of uploads.
export class UploadList {
  constructor() {
    this.box = make("ul", { class: "uploads", "aria-label": "Files" });
  }

  begin(file) {
    const name = clean(file.name);
    const bar = make("progress", { max: Math.max(file.size, 1), value: "0", "aria-label": `Upload of ${name}` });
    const note = make("span", { class: "note" });
    this.box.append(make("li", {}, make("span", { class: "name" }, name, note), bar));
    return { bar, note };
  }

  progress({ bar }, received) {
    bar.value = received;
  }

  end({ bar, note }, text, bad) {
    bar.remove();
    note.className = bad ? "note error" : "note soft";
    note.textContent = ` – ${text}`;
  }

  cancel({ bar, note }) {
    bar.remove();
    note.className = "note soft";
    note.textContent = ` – ${CANCELLED}`;
  }

  showLast() {
    this.box.scrollTop = this.box.scrollHeight;
  }

  clear() {
    this.box.replaceChildren();
  }
}
