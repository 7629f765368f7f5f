// What the page knows, without its elements: rows, the film that is open, questions to the server.

export class State {
  constructor(threshold) {
    this.rows = new Map(); // by id, in the order of their arrival
    this.open = null; // id of the film that is shown or was asked for
    this.others = 0; // films on their way that are no uploads of this page: samples, plain uploads
    this.forgets = []; // orders to forget without an answer: the number of the last ping before each
    this.threshold = threshold;
    this.arrivals = 0;
    this.doubtful = false; // whether verdicts may be of an earlier operating point
  }

  // New films are on their way, and the result of before must not be taken for theirs.
  expect(others = 0) {
    this.open = null;
    this.others += others;
  }

  // Whether what the server sends is of films that are to be forgotten: answers come in the order of the questions.
  get forgetting() {
    return this.forgets.length > 0;
  }

  // A row; true if it is to be opened: the first that can be read while nothing is open, and no later one.
  arrive(row, mine) {
    if (!mine) this.others = Math.max(0, this.others - 1);
    const before = this.rows.get(row.id);
    this.rows.set(row.id, { n: before ? before.n : ++this.arrivals, ...row });
    if (row.error || this.open !== null) return false;
    this.open = row.id;
    return true;
  }

  // Another operating point: the rows whose verdict changed.
  move(threshold, changed) {
    this.threshold = threshold;
    for (const row of this.rows.values()) if (!row.error) row.threshold = threshold;
    for (const change of changed) {
      const row = this.rows.get(change.id);
      if (row) Object.assign(row, change);
    }
  }

  // Everything is forgotten here at once; until the server has answered, what arrives is of before.
  forget(ping) {
    this.rows.clear();
    this.open = null;
    this.others = 0;
    this.arrivals = 0;
    this.forgets.push(ping);
  }

  // How many files got which verdict.
  counts() {
    const counts = new Map();
    for (const row of this.rows.values()) {
      const said = row.verdict || "not read";
      counts.set(said, (counts.get(said) || 0) + 1);
    }
    return counts;
  }
}

// Questions, of each kind one at a time: while it is open only the newest of those asked since is kept.
export class Asker {
  constructor(send, ping) {
    this.send = send;
    this.ping = ping; // gives the number of the last ping
    this.asked = new Map(); // by key: the message, and the number of the last ping before it
    this.next = new Map();
  }

  ask(key, message) {
    this.next.set(key, message);
    this.go(key);
  }

  go(key) {
    if (this.asked.has(key) || !this.next.has(key)) return;
    const message = this.next.get(key);
    this.next.delete(key);
    this.asked.set(key, { message, sealed: this.ping() });
    this.send(message);
  }

  // An answer came; true if nothing newer was asked meanwhile, so that it may be shown.
  answered(key) {
    this.asked.delete(key);
    const newest = !this.next.has(key);
    this.go(key);
    return newest;
  }

  // The answer is of no interest any more.
  drop(key) {
    this.asked.delete(key);
    this.next.delete(key);
  }

  // The server has answered a ping: a question of before it that has no answer was lost on the way. The keys of those.
  pong(n) {
    const lost = [];
    for (const [key, { message, sealed }] of [...this.asked]) {
      if (n <= sealed) continue;
      this.asked.delete(key);
      this.ask(key, this.next.get(key) || message);
      lost.push(key);
    }
    return lost;
  }

  // A question led to an error, and which one is unknown: none is asked again.
  failed() {
    const keys = [...this.asked.keys()];
    this.asked.clear();
    for (const key of keys) this.go(key);
  }
}
