// State of the page, without its elements: rows, the open film, requests to the server.
import { said } from "./reader.js";

export const IN_REPORTS = /^(reader-.*|remove-.*|point|truth)$/; // requests whose effects a report shows

export class State {
  constructor(threshold) {
    this.rows = new Map(); // by id, in the order of their arrival
    this.open = null; // id of the film that is shown or was asked for
    this.others = 0; // pending films that are not uploads of this page: samples, plain uploads
    this.forgets = []; // unanswered delete requests: the number of the last ping before each
    this.threshold = threshold;
    this.arrivals = 0;
    this.doubtful = false; // whether verdicts may be of an earlier operating point
    this.undeleted = false; // whether the server may still have films that were to be deleted
    this.unsaved = new Set(); // ids of results that neither a CSV nor a report has saved
    this.reported = new Set(); // ids of results that a report on its way has as they are
  }

  // New films are coming: close the previous result, which must not be taken for theirs.
  expect(others = 0) {
    this.open = null;
    this.others += others;
  }

  // Whether the server's messages are still about deleted films: answers come in the order of the requests.
  get forgetting() {
    return this.forgets.length > 0;
  }

  // Add a row; true if it is to be opened: only the first that can be read while nothing is open.
  arrive(row, mine) {
    const before = this.rows.get(row.id);
    if (!mine && !before) this.others = Math.max(0, this.others - 1);
    if (!row.error && !(before && !before.error)) this.unsaved.add(row.id);
    const reader = before?.reader ?? row.reader; // the page's is never older than the server's
    const { truth } = before ?? {};
    this.rows.set(row.id, { n: before ? before.n : ++this.arrivals, ...row, reader, truth });
    if (row.error || this.open !== null) return false;
    this.open = row.id;
    return true;
  }

  // Rows of an earlier page of this tab, whose films are gone.
  restore(rows) {
    for (const { unsaved, ...row } of rows) {
      this.rows.set(row.id, { ...row, n: ++this.arrivals });
      if (unsaved) this.unsaved.add(row.id);
    }
  }

  // The server still has the films of these rows, as in a notebook whose cell runs again: what was kept of them are no
  // further results. Returns their ids.
  unkeep(rows) {
    const files = new Map(rows.map((row) => [row.id, row.file]));
    const kept = [...this.rows.values()].filter((row) => row.kept && files.get(row.was) === row.file);
    for (const { id } of kept) {
      this.rows.delete(id);
      this.unsaved.delete(id);
    }
    return kept.map((row) => row.id);
  }

  // One film is deleted.
  remove(id) {
    this.rows.delete(id);
    this.unsaved.delete(id);
    this.reported.delete(id);
    if (this.open === id) this.open = null;
  }

  // Ids of the films that the server has.
  get held() {
    return [...this.rows.values()].filter((row) => !row.kept).map((row) => row.id);
  }

  // Set another operating point, and the new verdicts of the rows that changed.
  move(threshold, changed) {
    this.threshold = threshold;
    for (const row of this.rows.values()) if (!row.error && !row.kept) row.threshold = threshold;
    for (const change of changed) {
      const row = this.rows.get(change.id);
      if (row) Object.assign(row, change);
    }
  }

  // The reader's verdict and comment on a film: no file has them yet.
  note(id, reader) {
    this.rows.get(id).reader = reader;
    this.unsaved.add(id);
    this.reported.delete(id);
  }

  // The reader's verdict and comment in another view; true if the film is here, with another reading.
  hear(id, own) {
    const row = this.rows.get(id);
    if (!row || said(row.reader) === said(own)) return false;
    this.note(id, own);
    return true;
  }

  // A report of these results is asked for.
  report(ids) {
    this.reported = new Set(ids);
  }

  // Number of results with a reading that no file has: work that nothing brings back.
  get unsavedReadings() {
    return [...this.unsaved].filter((id) => said(this.rows.get(id)?.reader)).length;
  }

  // A file with these rows was saved.
  saved(ids) {
    for (const id of ids) this.unsaved.delete(id);
  }

  // Delete everything here at once. Until the server has answered, what arrives is about deleted films.
  forget(ping) {
    this.rows.clear();
    this.unsaved.clear();
    this.open = null;
    this.others = 0;
    this.arrivals = 0;
    this.undeleted = false;
    this.forgets.push(ping);
  }

  // The server answered ping n: whether an earlier delete request was lost with its answer, and none came after it.
  // It may be repeated unless films came since then, `pending` uploads too: these would be deleted.
  lostForget(n, pending) {
    if (!this.forgetting || n <= this.forgets[0]) return false;
    this.forgets.shift();
    if (this.forgetting) return false;
    this.undeleted = this.rows.size + this.others + pending > 0;
    return true;
  }

  // Number of files of each verdict.
  counts() {
    const counts = new Map();
    for (const row of this.rows.values()) {
      const outcome = row.verdict || "not read";
      counts.set(outcome, (counts.get(outcome) || 0) + 1);
    }
    return counts;
  }
}

// Requests, one at a time of each kind: while one is pending, only the newest of the later ones is kept.
export class Asker {
  constructor(send, ping) {
    this.send = send;
    this.ping = ping; // returns the number of the last ping
    // by key: the request, the number of the last ping before it, and how many answers to earlier ones come before its
    this.asked = new Map();
    this.next = new Map();
  }

  // `buffers`: binary parts of the message, for what is too long for JSON.
  ask(key, message, buffers) {
    this.next.set(key, { message, buffers });
    this.go(key);
  }

  go(key) {
    if (this.asked.has(key) || !this.next.has(key)) return;
    const request = this.next.get(key);
    this.next.delete(key);
    this.put(key, request, 0);
  }

  put(key, request, before) {
    this.asked.set(key, { request, sealed: this.ping(), before });
    this.send(request.message, request.buffers);
  }

  // Send the newest request of each of these kinds now, unless it was answered: what is asked next must find it done.
  hurry(kinds) {
    for (const [key, { request, before }] of [...this.asked]) {
      if (!kinds.test(key)) continue;
      const newest = this.next.get(key) ?? request; // the pending one may be lost: no answer says that it arrived
      this.next.delete(key);
      this.put(key, newest, before + 1);
    }
  }

  // An answer came; true if no newer request is pending, so that it may be shown.
  answered(key) {
    const asked = this.asked.get(key);
    if (asked?.before) {
      asked.before -= 1;
      return false;
    }
    this.asked.delete(key);
    const newest = !this.next.has(key);
    this.go(key);
    return newest;
  }

  // The answer is no longer needed.
  drop(key) {
    this.asked.delete(key);
    this.next.delete(key);
  }

  // The server answered ping n: earlier requests without an answer were lost and are repeated. Returns their keys.
  pong(n) {
    const lost = [];
    for (const [key, { request, sealed }] of [...this.asked]) {
      if (n <= sealed) continue;
      this.asked.delete(key);
      if (!this.next.has(key)) this.next.set(key, request);
      this.go(key);
      lost.push(key);
    }
    return lost;
  }

  // A request led to an error, and it is unknown which: none is repeated.
  failed() {
    const keys = [...this.asked.keys()];
    this.asked.clear();
    for (const key of keys) this.go(key);
  }
}
