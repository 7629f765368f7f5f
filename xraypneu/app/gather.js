// Does one thing at most once in a while, however often it is asked to: what comes faster than it can be drawn is drawn
// together.
const APART = 200; // milliseconds

export class Gatherer {
  constructor(task, rest = APART) {
    Object.assign(this, { task, rest, ended: -Infinity, timer: null });
  }

  // At once after a rest, else when the rest is over.
  ask() {
    const wait = this.ended + this.rest - performance.now();
    if (wait <= 0) this.now();
    else this.timer ??= setTimeout(() => this.now(), wait);
  }

  now() {
    this.stop();
    this.task();
    this.ended = performance.now(); // a task that takes long leaves the page as much time for others
  }

  // Do now what was asked for.
  hurry() {
    if (this.timer !== null) this.now();
  }

  stop() {
    clearTimeout(this.timer);
    this.timer = null;
  }
}
