import assert from "node:assert/strict";
import { test } from "node:test";

import { columnsOf, isTable } from "../../xraypneu/app/truth.js";

test("a table is told by its name's ending", () => {
  assert.deepEqual(["a.CSV", "a.csv.png", "csv"].map((name) => isTable({ name })), [true, false, false]);
});

test("the matrix has both classes and what else occurred", () => {
  const none = { NORMAL: 0, PNEUMONIA: 0, UNSURE: 0, "OUT OF SCOPE": 0, "not read": 0 };
  const matrix = { NORMAL: { ...none, NORMAL: 3 }, PNEUMONIA: { ...none, UNSURE: 1 } };
  assert.deepEqual(columnsOf({ matrix }), ["NORMAL", "PNEUMONIA", "UNSURE"]);
});
