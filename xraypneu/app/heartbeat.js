// Detects a lost server by pings. A page that nobody uses stops pinging, so that the server can end its session; one
// with unfinished uploads goes on, or it would not notice that one was lost.
const EVERY = 3000; // milliseconds between two pings
const SLEPT = 6000; // a longer gap means that this page was suspended, hidden or with its machine

export class Heartbeat {
  constructor({ send, patience, rest, lost, recovered, busy = () => false, first = 0, now = () => Date.now() }) {
    Object.assign(this, { send, patience, rest, recovered, busy, first, pings: first, now, isLost: false });
    this.onlost = lost;
    this.used = this.beaten = this.heard = now();
  }

  start(target) {
    const used = () => this.use();
    const names = ["pointerdown", "keydown", "wheel", "visibilitychange"];
    for (const name of names) target.addEventListener(name, used, { passive: true });
    const timer = setInterval(() => this.beat(), EVERY);
    return () => {
      clearInterval(timer);
      for (const name of names) target.removeEventListener(name, used);
    };
  }

  use() {
    if (this.now() - this.used > this.rest) this.heard = this.now();
    this.used = this.now();
  }

  // A message came from the server.
  hear() {
    this.heard = this.now();
    if (!this.isLost) return;
    this.isLost = false;
    this.recovered();
  }

  // Whether an answer is to a ping of this page: other views of the session, in a notebook, have their own numbers.
  isMine(n) {
    return n > this.first && n <= this.pings;
  }

  beat() {
    const late = this.now() - this.beaten > SLEPT;
    this.beaten = this.now();
    if (late) this.heard = this.beaten; // no ping was sent meanwhile
    if (this.busy() && !this.isLost) this.use();
    if (this.now() - this.used > this.rest) return;
    this.send({ kind: "ping", n: ++this.pings });
    if (this.now() - this.heard <= this.patience || this.isLost) return;
    this.isLost = true;
    this.onlost();
  }
}
