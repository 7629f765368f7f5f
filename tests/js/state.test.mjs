import assert from "node:assert/strict";
import { test } from "node:test";

import { Asker, IN_REPORTS, State } from "../../xraypneu/app/state.js";

const row = (id, more = {}) => ({ id, file: `${id}.png`, verdict: "NORMAL", probability: 0.1, threshold: 0.3, ...more });

test("of a batch the first film that can be read is opened, and none that arrives later", () => {
  const state = new State(0.3);
  state.expect();
  assert.equal(state.arrive({ id: "u1", file: "a.txt", error: "a text" }, true), false);
  assert.equal(state.arrive(row("u2"), true), true);
  assert.equal(state.arrive(row("u3"), true), false);
  state.open = "u2"; // a person opens one while others load
  assert.equal(state.arrive(row("u4"), true), false);
  assert.equal(state.open, "u2");
  assert.deepEqual([...state.rows.values()].map((r) => r.n), [1, 2, 3, 4]);
});

test("a row that arrives again keeps its number", () => {
  const state = new State(0.3);
  state.arrive(row("u1"), true);
  state.arrive(row("u2"), true);
  state.arrive(row("u1", { verdict: "UNSURE" }), true);
  assert.deepEqual([state.rows.get("u1").n, state.rows.get("u1").verdict], [1, "UNSURE"]);
});

test("another operating point changes what it must", () => {
  const state = new State(0.3);
  for (const id of ["u1", "u2"]) state.arrive(row(id), true);
  state.arrive({ id: "u3", file: "c", error: "empty" }, true);
  state.move(0.05, [{ id: "u2", verdict: "PNEUMONIA" }, { id: "forgotten", verdict: "NORMAL" }]);
  const seen = [...state.rows.values()].map((r) => [r.verdict, r.threshold]);
  assert.deepEqual(seen, [["NORMAL", 0.05], ["PNEUMONIA", 0.05], [undefined, undefined]]);
  assert.deepEqual([...state.counts()], [["NORMAL", 1], ["PNEUMONIA", 1], ["not read", 1]]);
});

test("results are unsaved from their arrival until a file has them; files that can't be read are none", () => {
  const state = new State(0.3);
  for (const id of ["u1", "u2"]) state.arrive(row(id), true);
  state.arrive({ id: "u3", file: "c", error: "empty" }, true);
  assert.deepEqual([...state.unsaved], ["u1", "u2"]);
  state.saved(["u1", "u3"]);
  state.arrive(row("u1"), true); // its answer came twice
  assert.deepEqual([...state.unsaved], ["u2"]);
  state.arrive(row("u3"), true); // the server had read it after all
  assert.deepEqual([...state.unsaved], ["u2", "u3"]);
  state.forget(0);
  assert.equal(state.unsaved.size, 0);
});

test("forgetting empties the page at once, and what was on its way stays out", () => {
  const state = new State(0.3);
  state.arrive(row("u1"), true);
  state.forget(7);
  assert.deepEqual([state.rows.size, state.open, state.forgetting, state.forgets], [0, null, true, [7]]);
});

test("a delete request that was lost is repeated, unless that would delete films that came since", () => {
  const state = new State(0.3);
  state.forget(7);
  assert.equal(state.lostForget(7, 0), false); // its answer may still come
  assert.deepEqual([state.lostForget(8, 0), state.undeleted, state.forgetting], [true, false, false]);
  state.forget(8);
  assert.deepEqual([state.lostForget(9, 1), state.undeleted], [true, true]);
  state.forget(9); // pressed again
  assert.equal(state.undeleted, false);
  state.forget(10); // and once more
  assert.deepEqual([state.lostForget(11, 0), state.forgets], [false, [10]]);
  state.expect(1);
  assert.deepEqual([state.lostForget(12, 0), state.undeleted], [true, true]);
});

test("a reading in another view is this one's too, and counts as not saved", () => {
  const state = new State(0.3);
  state.arrive(row("u1"), false);
  state.saved(["u1"]);
  assert.equal(state.hear("u2", { verdict: "NORMAL", comment: "" }), false); // deleted here
  assert.equal(state.hear("u1", { verdict: "", comment: "" }), false); // nothing new
  assert.ok(!state.unsaved.has("u1"));
  assert.equal(state.hear("u1", { verdict: "UNSURE", comment: "scar" }), true);
  assert.deepEqual(state.rows.get("u1").reader, { verdict: "UNSURE", comment: "scar" });
  assert.equal(state.unsavedReadings, 1);
  assert.equal(state.hear("u1", { verdict: "", comment: "" }), true); // taken back
  assert.equal(state.unsavedReadings, 0);
});

const asker = () => {
  const sent = [];
  let pings = 0;
  return { sent, asker: new Asker((m) => sent.push(m), () => pings), ping: () => ++pings };
};

test("while a question is open only the newest of its kind waits", () => {
  const { sent, asker: a } = asker();
  for (const value of [0.1, 0.2, 0.3]) a.ask("point", { value });
  assert.deepEqual(sent, [{ value: 0.1 }]);
  assert.equal(a.answered("point"), false); // the slider is elsewhere by now
  assert.deepEqual(sent, [{ value: 0.1 }, { value: 0.3 }]);
  assert.equal(a.answered("point"), true);
  a.ask("metrics", {});
  assert.equal(sent.length, 3);
});

test("a report is asked for after the newest of what it shows, which an answer to an earlier one does not settle", () => {
  const { sent, asker: a, ping } = asker();
  for (const verdict of ["NORMAL", "UNSURE"]) a.ask("reader-u1", { verdict });
  a.ask("open", { id: "u2" });
  a.hurry(/^reader-/);
  assert.deepEqual(sent, [{ verdict: "NORMAL" }, { id: "u2" }, { verdict: "UNSURE" }]);
  assert.equal(a.answered("reader-u1"), false);
  a.pong(ping()); // the answer to the newest was lost
  assert.deepEqual(sent.slice(3), [{ verdict: "UNSURE" }, { id: "u2" }]);
  assert.equal(a.answered("reader-u1"), true);
  a.hurry(/^reader-/);
  assert.equal(sent.length, 5);
  a.ask("reader-u1", { verdict: "" });
  a.hurry(/^reader-/); // nothing says that it has arrived
  assert.deepEqual(sent.slice(5), [{ verdict: "" }, { verdict: "" }]);
});

test("a report is asked for after a deletion that may be lost, and after all else that it shows", () => {
  const { sent, asker: a } = asker();
  for (const key of ["remove-u1", "open", "reader-u2", "point", "metrics", "truth"]) a.ask(key, key);
  a.hurry(IN_REPORTS); // nothing says that they have arrived
  assert.deepEqual(sent.slice(6), ["remove-u1", "reader-u2", "point", "truth"]);
});

test("a question that was lost is asked again, as the newest one", () => {
  const { sent, asker: a, ping } = asker();
  const early = ping();
  a.ask("open", { id: "u1" });
  a.ask("open", { id: "u2" });
  assert.deepEqual(a.pong(early), []); // sent before the question: says nothing about it
  assert.equal(sent.length, 1);
  assert.deepEqual(a.pong(ping()), ["open"]);
  assert.deepEqual(sent.at(-1), { id: "u2" });
  a.answered("open");
  a.pong(ping());
  assert.equal(sent.length, 2);
});

test("a question that was lost is asked again with its binary parts", () => {
  const sent = [];
  const a = new Asker((...parts) => sent.push(parts), () => 1);
  a.ask("truth", { kind: "truth" }, ["table"]);
  a.pong(2);
  assert.deepEqual(sent, Array(2).fill([{ kind: "truth" }, ["table"]]));
});

test("a question that leads to an error is not asked again", () => {
  const { sent, asker: a, ping } = asker();
  a.ask("open", { id: "u1" });
  a.failed();
  a.pong(ping());
  assert.equal(sent.length, 1);
  a.ask("open", { id: "u2" });
  a.drop("open");
  a.pong(ping());
  assert.equal(sent.length, 2);
});

test("a row that is shown again, for another view, is not taken for a film that is awaited", () => {
  const state = new State(0.3);
  state.arrive(row("p1"), false);
  state.expect(1); // a sample
  state.arrive(row("p1"), false);
  assert.equal(state.others, 1);
  state.arrive(row("p2"), false);
  assert.equal(state.others, 0);
});
