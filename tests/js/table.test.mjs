import assert from "node:assert/strict";
import { test } from "node:test";

import { CAUTION, kind } from "../../xraypneu/app/dom.js";
import { compare, matches, nextVerdict, numberOf, opens, place, summary } from "../../xraypneu/app/table.js";

const rows = [
  { n: 1, file: "b.png", verdict: "NORMAL", probability: 0.2 },
  { n: 2, file: "A.png", verdict: "PNEUMONIA", probability: 0.9 },
  { n: 3, file: "c.txt", error: "a text" },
  { n: 4, file: "d.png", verdict: "NOT A CHEST X-RAY", probability: null },
];
const sorted = (key, down = false) => [...rows].sort(compare({ key, down })).map((r) => r.n);

test("rows are sorted by each column, without a number first, equal ones as they came", () => {
  assert.deepEqual(sorted("n", true), [4, 3, 2, 1]);
  assert.deepEqual(sorted("probability"), [3, 4, 1, 2]);
  assert.deepEqual(sorted("verdict"), [1, 4, 2, 3]);
});

test("the filter takes a part of the name and a verdict", () => {
  const found = (text, verdict) => rows.filter((r) => matches(r, text, verdict)).map((r) => r.n);
  assert.deepEqual(found("a.PNG", ""), [2]);
  assert.deepEqual(found("", "not read"), [3]);
  assert.deepEqual(found("png", "NORMAL"), [1]);
});

test("a new row finds its place as sorting would put it", () => {
  for (const key of ["n", "file", "verdict", "probability"])
    for (const down of [false, true]) {
      const list = [];
      for (const row of rows) list.splice(place(list, row, compare({ key, down })), 0, row);
      assert.deepEqual(list.map((r) => r.n), sorted(key, down), `${key} ${down}`);
    }
});

test("the counts name what there is", () => {
  assert.equal(summary(1, 3, new Map([["not read", 1], ["UNSURE", 2]])), "1 of 3 files: 2 UNSURE, 1 not read");
  const refused = new Map([["NOT A CHEST X-RAY", 1], ["OUT OF SCOPE", 1]]);
  assert.equal(summary(2, 2, refused), "2 of 2 files: 1 OUT OF SCOPE, 1 NOT A CHEST X-RAY");
});

test("a probability that is out of scope has a caution beside it, and no other", () => {
  assert.deepEqual(numberOf({ verdict: "OUT OF SCOPE", probability: 0.9123 }), ["0.912", CAUTION]);
  assert.deepEqual(numberOf({ verdict: "NOT A CHEST X-RAY", probability: null }), ["", ""]);
  for (const verdict of ["NORMAL", "PNEUMONIA", "UNSURE"])
    assert.deepEqual(numberOf({ verdict, probability: 0.2 }), ["0.200", ""]);
  assert.deepEqual(numberOf({ verdict: "PNEUMONIA", probability: 0.9997 }), ["> 0.999", ""]);
});

test("each verdict has a name of its own for its class and icon", () => {
  const verdicts = ["NORMAL", "PNEUMONIA", "UNSURE", "OUT OF SCOPE", "NOT A CHEST X-RAY"];
  assert.deepEqual(verdicts.map(kind), ["NORMAL", "PNEUMONIA", "UNSURE", "OUT_OF_SCOPE", "NOT_RADIOGRAPH"]);
});

test("buttons of files with one name have different names", () => {
  const same = [1, 2].map((n) => ({ n, file: "a.png" }));
  assert.deepEqual(same.map((row) => opens(row, same)), ["Open a.png", "Open a.png, number 2"]);
});

test("a key shows one verdict alone, each that a file has, then all again", () => {
  const counts = new Map([["UNSURE", 2], ["NORMAL", 1], ["not read", 1]]);
  const seen = ["NORMAL", "UNSURE", "not read", ""];
  seen.forEach((verdict, i) => assert.equal(nextVerdict(seen.at(i - 1), counts), verdict));
  assert.equal(nextVerdict("PNEUMONIA", counts), ""); // its last film is now of another verdict
});
