import assert from "node:assert/strict";
import { test } from "node:test";

import { columnsOf, coverOf, isTable } from "../../xraypneu/app/truth.js";

test("a table is told by its name's ending", () => {
  assert.deepEqual(["a.CSV", "a.csv.png", "csv"].map((name) => isTable({ name })), [true, false, false]);
});

test("what the numbers leave out is named", () => {
  assert.equal(coverOf({ films: 1, unlabelled: 0, twice: 0, unmatched: 0 }), "1 film with a label.");
  const all = coverOf({ films: 4, unlabelled: 2, twice: 3, unmatched: 1 });
  const rest = "2 without; 3 left out, as others have the same name; 1 label for no film here.";
  assert.equal(all, `4 films with a label; ${rest}`);
});

test("the matrix has both classes and what else occurred", () => {
  const none = { NORMAL: 0, PNEUMONIA: 0, UNSURE: 0, "OUT OF SCOPE": 0, "not read": 0 };
  const matrix = { NORMAL: { ...none, NORMAL: 3 }, PNEUMONIA: { ...none, UNSURE: 1 } };
  assert.deepEqual(columnsOf({ matrix }), ["NORMAL", "PNEUMONIA", "UNSURE"]);
});
