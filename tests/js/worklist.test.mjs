import assert from "node:assert/strict";
import { test } from "node:test";

import { progressOf } from "../../xraypneu/app/files.js";
import { neighbour, positionOf, shiftTo } from "../../xraypneu/app/worklist.js";

const rows = [{ id: "a" }, { id: "b", error: "a text" }, { id: "c" }, { id: "d" }];

test("the next film is the next that can be opened; at the ends there is none", () => {
  const at = (open, step) => neighbour(rows, open, step)?.id;
  assert.deepEqual([at("a", 1), at("c", -1), at("c", 1)], ["c", "a", "d"]);
  assert.deepEqual([at("d", 1), at("a", -1)], [undefined, undefined]);
});

test("from a film that the filter hides, or none, it goes to an end of the list", () => {
  assert.equal(neighbour(rows, "hidden", 1).id, "a");
  assert.equal(neighbour(rows, null, -1).id, "d");
  assert.equal(neighbour([], null, 1), undefined);
});

test("the position counts what can be opened", () => {
  assert.deepEqual([positionOf(rows, "c"), positionOf(rows, null)], ["2 of 3", "3 films"]);
});

test("a list scrolls as far as it must", () => {
  assert.deepEqual([shiftTo(50, 20, 40, 100), shiftTo(30, 20, 40, 100), shiftTo(130, 20, 40, 100)], [0, -10, 10]);
});

test("the files tell how far they are", () => {
  assert.equal(progressOf(12, 8, 1), "12 files: 8 read, 1 not read, 3 to come");
  assert.equal(progressOf(1, 1, 0), "1 file: 1 read");
});
