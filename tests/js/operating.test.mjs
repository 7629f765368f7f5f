import assert from "node:assert/strict";
import { test } from "node:test";

import { inOrder, noteOf, ruleOf } from "../../xraypneu/app/operating.js";

test("the rule says what this point does, and what a lower and a higher one do", () => {
  const [verdicts, ...moves] = ruleOf({ band: [0.02, 0.553], limits: [0.338, 0.553] });
  assert.equal(verdicts, "A film at or above 0.553 is PNEUMONIA, one below 0.020 NORMAL, one between UNSURE.");
  assert.deepEqual(moves, [
    "A point below 0.338 turns NORMAL into UNSURE, never into PNEUMONIA.",
    "A point above 0.553 turns PNEUMONIA into UNSURE, never into NORMAL.",
    "Films from 0.338 to 0.553 are UNSURE at any point.",
  ]);
});

test("without limits nothing is UNSURE, and a lower point does miss fewer", () => {
  const rule = ruleOf({ band: [0.4, 0.4], limits: null }).join(" ");
  assert.match(rule, /misses fewer/);
  assert.doesNotMatch(rule, /UNSURE/);
});

test("the rows are in the order of the columns, whatever the server's", () => {
  const rows = (...names) => names.map((verdict) => ({ verdict }));
  assert.deepEqual(inOrder(rows("PNEUMONIA", "NORMAL", "UNSURE")), rows("NORMAL", "PNEUMONIA", "UNSURE"));
  assert.deepEqual(inOrder(rows("PNEUMONIA", "NORMAL")), rows("NORMAL", "PNEUMONIA"));
});

test("the note names the films, and those that were refused", () => {
  const o = { threshold: 0.314, prevalence: 0.3, on: "test", counts: { NORMAL: 234, PNEUMONIA: 390 }, refused: 0.0176 };
  assert.match(noteOf(o), /on the test films; .* 1\.8 % of them are OUT OF SCOPE or NOT A CHEST X-RAY/);
  const other = noteOf({ ...o, on: "shifted validation", counts: null, refused: null });
  assert.match(other, /altered to imitate another hospital/);
  assert.match(noteOf(o), /chosen on validation films/);
  assert.doesNotMatch(other, /OUT OF SCOPE|not on these/);
});
