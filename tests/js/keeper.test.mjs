import assert from "node:assert/strict";
import { test } from "node:test";

import { Keeper, keepable, nameOfKept, restored } from "../../xraypneu/app/keeper.js";
import { State } from "../../xraypneu/app/state.js";
import { Memory, placeInTab } from "../../xraypneu/app/storage.js";
import { neighbour, positionOf } from "../../xraypneu/app/worklist.js";

const film = (id, more = {}) => ({ id, file: `${id}.png`, verdict: "NORMAL", threshold: 0.3, cells: [], ...more });

test("results come back without their pictures, under ids that the server does not know", () => {
  const state = new State(0.3);
  state.arrive(film("a", { thumb: "data:image/png;base64,AAAA", reader: { verdict: "UNSURE", comment: "see May" } }), true);
  state.arrive({ id: "b", file: "b.txt", error: "no picture" }, true);
  state.saved(["a"]);
  const text = keepable(state.rows.values(), state.unsaved);
  assert.ok(!text.includes("data:image"));
  const rows = restored(text);
  assert.deepEqual(rows.map((r) => [r.id, r.file, r.kept]), [["kept-0", "a.png", true], ["kept-1", "b.txt", true]]);
  assert.deepEqual(rows[0].reader, { verdict: "UNSURE", comment: "see May" });

  const next = new State(0.5);
  next.restore(rows);
  next.arrive(film("a"), true);
  assert.deepEqual([...next.rows.keys()], ["kept-0", "kept-1", "a"]);
  assert.deepEqual([[...next.rows.values()].map((r) => r.n), next.held], [[1, 2, 3], ["a"]]);
  assert.ok(!next.unsaved.has("kept-0"));
  next.move(0.7, []); // the verdicts of another session stay those of its operating point
  assert.deepEqual([...next.rows.values()].map((r) => r.threshold), [0.3, undefined, 0.7]);
});

test("labels meet kept results by their whole names", () => {
  const long = { file: "a…z.dcm", cells: ["abcz.dcm"] };
  assert.deepEqual([{ file: "=1.png", cells: ["'=1.png"] }, long].map(nameOfKept), ["=1.png", "abcz.dcm"]);
});

test("a session that still has the films of kept results gives them itself", () => {
  const state = new State(0.3);
  const before = [film("u1"), film("p1"), { id: "u2", file: "b.txt", error: "no picture" }];
  state.restore(restored(keepable(before, new Set(["u1"]))));
  assert.deepEqual(state.unkeep([film("u1"), film("p1", { file: "another.png" })]), ["kept-0"]);
  assert.deepEqual([[...state.rows.keys()], state.unsaved.size], [["kept-1", "kept-2"], 0]);
});

// As much of a page's elements as the keeper has, and of a browser's storage.
function keeper(kept, room = Infinity, place = 1) {
  const element = () => ({ append() {}, addEventListener() {}, setAttribute() {}, classList: { toggle() {} } });
  globalThis.document = { createElement: element };
  const store = {
    getItem: (k) => kept.get(k) ?? null,
    removeItem: (k) => kept.delete(k),
    setItem(k, v) {
      if (v.length > room) throw new Error("QuotaExceededError");
      kept.set(k, v);
    },
  };
  return new Keeper(new Memory(() => store, place), new State(0.3));
}

test("two pages in one tab of JupyterLab keep their results apart, and one that is shown again finds its own", () => {
  const [tab, kept] = [{}, new Map()];
  const [[first, leave], [second]] = [placeInTab(tab), placeInTab(tab)];
  for (const place of [first, second]) {
    const one = keeper(kept, Infinity, place);
    one.state.arrive(film(`u${place}`), true);
    one.tick.checked = true;
    one.write(true);
  }
  assert.deepEqual([...kept.keys()].sort(), ["xraypneu-2-keep", "xraypneu-2-results", "xraypneu-keep", "xraypneu-results"]);
  leave(); // its cell runs again
  const files = [placeInTab(tab)[0], second].map((place) => keeper(kept, Infinity, place).recall()[0].file);
  assert.deepEqual(files, ["u1.png", "u2.png"]);
});

test("a view whose tick is off leaves alone what another keeps, and the tick that is taken off deletes it", () => {
  const kept = new Map();
  const [one, other] = [keeper(kept), keeper(kept)];
  one.state.arrive(film("u1"), true);
  one.tick.checked = true;
  one.write(true);
  other.state.arrive(film("u1"), true);
  other.write();
  assert.equal(one.recall().length, 1);
  one.tick.checked = false;
  one.write(true);
  assert.equal(kept.size, 0);
});

test("results that find no room leave no earlier ones in their place", () => {
  const kept = new Map();
  const one = keeper(kept, 300);
  one.tick.checked = true;
  one.state.arrive(film("u1"), true);
  one.write();
  assert.equal(one.recall().length, 1);
  for (const id of ["u2", "u3", "u4"]) one.state.arrive(film(id), true);
  one.write();
  assert.deepEqual([one.recall(), one.what.textContent.slice(0, 8)], [[], "Not kept"]);
});

test("results of a long batch are kept while it goes on", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const one = keeper(new Map());
  one.tick.checked = true;
  for (let i = 0; i < 20; i++) {
    one.state.arrive(film(`u${i}`), true);
    one.changed();
    t.mock.timers.tick(100);
  }
  assert.equal(one.recall().length, 20);
});

test("what was kept and is no longer readable is nothing", () => {
  for (const text of [null, "", "{", "[]", '{"form":0,"rows":[1]}', '{"form":1}']) assert.deepEqual(restored(text), []);
});

test("a kept result has no film to open", () => {
  const rows = [film("kept-0", { kept: true }), film("a"), film("kept-1", { kept: true }), film("b")];
  assert.equal(neighbour(rows, "a", 1).id, "b");
  assert.equal(neighbour(rows, null, 1).id, "a");
  assert.equal(positionOf(rows, "b"), "2 of 2");
});
