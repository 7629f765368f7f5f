import assert from "node:assert/strict";
import { test } from "node:test";

import { besides } from "../../xraypneu/app/dom.js";
import { sentence } from "../../xraypneu/app/viewer.js";

const film = { name: "a.png", probability: 0.9123, where: "upper left", caution: "" };

test("screen readers hear the caution with the number, and no number of what is no chest radiograph", () => {
  const plain = sentence({ ...film, verdict: "PNEUMONIA" });
  assert.equal(plain, "a.png: PNEUMONIA, probability 0.912, strongest support upper left.");
  const marked = sentence({ ...film, verdict: "OUT OF SCOPE", caution: "out of scope: accuracy unknown" });
  assert.match(marked, /^a\.png: OUT OF SCOPE, probability 0\.912 \(out of scope: accuracy unknown\), /);
  assert.equal(sentence({ ...film, verdict: "NOT A CHEST X-RAY", probability: null }), "a.png: NOT A CHEST X-RAY.");
});

test("two numbers that differ never look alike", () => {
  assert.equal(besides(0.8614, 0.3139), "Probability 0.86, above the operating point of 0.31");
  assert.equal(besides(0.3142, 0.3139), "Probability 0.3142, above the operating point of 0.3139");
  assert.equal(besides(0.31, 0.31), "Probability 0.31, at the operating point of 0.31");
});
