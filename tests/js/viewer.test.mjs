import assert from "node:assert/strict";
import { test } from "node:test";

import { besides, probabilityText } from "../../xraypneu/app/dom.js";
import { sentence, unsureOf } from "../../xraypneu/app/viewer.js";

const film = { name: "a.png", probability: 0.9123, where: "upper left", caution: "" };

test("screen readers hear the caution with the number, and no number of what is no chest radiograph", () => {
  const plain = sentence({ ...film, verdict: "PNEUMONIA" });
  assert.equal(plain, "a.png: PNEUMONIA, probability 0.912, strongest support for PNEUMONIA upper left.");
  const marked = sentence({ ...film, verdict: "OUT OF SCOPE", caution: "out of scope: accuracy unknown" });
  assert.match(marked, /^a\.png: OUT OF SCOPE, probability 0\.912 \(out of scope: accuracy unknown\), /);
  assert.equal(sentence({ ...film, verdict: "NOT A CHEST X-RAY", probability: null }), "a.png: NOT A CHEST X-RAY.");
});

test("the scale names the range of UNSURE, where there is one", () => {
  assert.equal(unsureOf({ band: [0.314, 0.5531] }), "UNSURE 0.314 to 0.553");
  assert.equal(unsureOf({ band: [0.4, 0.4] }), "");
});

test("no probability looks certain, wherever it stands", () => {
  const numbers = [0.3139, 0.9994, 0.9996, 1, 0.0006, 0.0004, 0];
  const texts = ["0.314", "0.999", "> 0.999", "> 0.999", "0.001", "< 0.001", "< 0.001"];
  assert.deepEqual(numbers.map((p) => probabilityText(p)), texts);
  assert.match(sentence({ ...film, probability: 0.9996, verdict: "PNEUMONIA" }), /probability > 0\.999, strongest/);
  assert.equal(besides(0.997, 0.3139), "Probability 0.997, above the operating point of 0.31");
  assert.equal(besides(0.9997, 0.3139), "Probability > 0.999, above the operating point of 0.31");
  assert.equal(besides(0.0002, 0.3139), "Probability < 0.001, below the operating point of 0.31");
  assert.equal(besides(0.9996, 0.9991), "Probability > 0.999, above the operating point of 0.999");
  assert.equal(besides(0.9996, 0.9998), "Probability 0.9996, below the operating point of 0.9998");
});

test("two numbers that differ never look alike", () => {
  assert.equal(besides(0.8614, 0.3139), "Probability 0.86, above the operating point of 0.31");
  assert.equal(besides(0.3142, 0.3139), "Probability 0.3142, above the operating point of 0.3139");
  assert.equal(besides(0.31, 0.31), "Probability 0.31, at the operating point of 0.31");
});
