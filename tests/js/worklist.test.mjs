import assert from "node:assert/strict";
import { test } from "node:test";

import { progressOf, timeOf } from "../../xraypneu/app/files.js";
import { neighbour, positionOf, shiftTo, short } from "../../xraypneu/app/worklist.js";

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
  assert.deepEqual([positionOf([{ id: "a" }], null), positionOf([], null)], ["1 film", "0 films"]);
});

test("long names that differ at their end stay apart", () => {
  const [a, b] = ["1", "2"].map((end) => short(`1.2.840.113619.2.5.1762583153.215519.978957063.${end}`));
  assert.ok(a !== b && a.length < 40 && a.startsWith("1.2.840"));
  assert.equal(short("person1595_bacteria_4183.jpeg"), "person1595_bacteria_4183.jpeg");
});

test("a list scrolls as far as it must", () => {
  assert.deepEqual([shiftTo(50, 20, 40, 100), shiftTo(30, 20, 40, 100), shiftTo(130, 20, 40, 100)], [0, -10, 10]);
});

test("the files tell how far they are", () => {
  assert.equal(progressOf({ all: 12, read: 8, failed: 1, cancelled: 3 }), "12 files: 8 read, 1 not read, 3 cancelled");
  assert.equal(progressOf({ all: 1, read: 1, failed: 0 }), "1 file: 1 read");
  assert.equal(progressOf({ all: 120, read: 36, failed: 1 }), "37 of 120");
  assert.equal(progressOf({ all: 120, read: 36, failed: 1 }, 130), "37 of 120, about 2 min left");
  const times = ["10 s", "40 s", "1 min", "50 min", "2.5 h"].map((t) => `about ${t} left`);
  assert.deepEqual([1, 44, 56, 3000, 9000].map(timeOf), times);
});
