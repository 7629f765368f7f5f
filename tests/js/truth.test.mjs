import assert from "node:assert/strict";
import { test } from "node:test";

import { columnsOf, isTable, rowsOf } from "../../xraypneu/app/truth.js";

test("a table is told by its name's ending", () => {
  assert.deepEqual(["a.CSV", "a.csv.png", "csv"].map((name) => isTable({ name })), [true, false, false]);
});

test("the matrix has both classes and what else occurred", () => {
  const none = { NORMAL: 0, PNEUMONIA: 0, UNSURE: 0, "OUT OF SCOPE": 0, "not read": 0 };
  const matrix = { NORMAL: { ...none, NORMAL: 3 }, PNEUMONIA: { ...none, UNSURE: 1 } };
  assert.deepEqual(columnsOf({ matrix }), ["NORMAL", "PNEUMONIA", "UNSURE"]);
});

test("correct verdicts are on the diagonal, as in the reports", () => {
  const matrix = { PNEUMONIA: { NORMAL: 1, PNEUMONIA: 8, UNSURE: 2 }, NORMAL: { NORMAL: 9, PNEUMONIA: 0, UNSURE: 0 } };
  assert.deepEqual(rowsOf({ matrix }), [["NORMAL", "9", "0", "0"], ["PNEUMONIA", "1", "8", "2"]]);
});
