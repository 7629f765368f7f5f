import assert from "node:assert/strict";
import { test } from "node:test";

import { keepable, restored } from "../../xraypneu/app/keeper.js";
import { State } from "../../xraypneu/app/state.js";
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

test("what was kept and is no longer readable is nothing", () => {
  for (const text of [null, "", "{", "[]", '{"form":0,"rows":[1]}', '{"form":1}']) assert.deepEqual(restored(text), []);
});

test("a kept result has no film to open", () => {
  const rows = [film("kept-0", { kept: true }), film("a"), film("kept-1", { kept: true }), film("b")];
  assert.equal(neighbour(rows, "a", 1).id, "b");
  assert.equal(neighbour(rows, null, 1).id, "a");
  assert.equal(positionOf(rows, "b"), "2 of 2");
});
