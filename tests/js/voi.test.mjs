import assert from "node:assert/strict";
import { test } from "node:test";

import * as voi from "../../xraypneu/app/voi.js";

const { dragged, EIGHT, greyOf, levelsOf, readoutOf, sensible, shifted, spanOf, startOf, tableOf, widened } = voi;
const depth = { low: -1000, step: 0.5, inverted: false, bits: 12, center: 0, width: 400, function: "LINEAR" };
const greys = (curve, values, center = 50, width = 100) =>
  values.map((v) => Math.round(greyOf(v, { center, width, curve })));

test("values become the greys that Python gives them", () => {
  // the examples below `_window` in data/00_image
  assert.deepEqual(greys("LINEAR", [0, 50, 99, 200]), [0, 129, 255, 255]);
  assert.deepEqual(greys("LINEAR_EXACT", [0, 50, 100]), [0, 128, 255]);
  assert.deepEqual(greys("SIGMOID", [-1000, 50, 1000]), [0, 128, 255]);
});

test("a film is first shown with its own window, and one of 8 bits as it is", () => {
  assert.deepEqual(startOf(depth), { center: 0, width: 400, curve: "LINEAR" });
  const table = tableOf(EIGHT, startOf(EIGHT));
  assert.deepEqual([1, 2, 129, 256].map((level) => table[level]), [0, 1, 128, 255]);
});

test("what is no part of the picture is black, in a film whose lowest value is white too", () => {
  const own = startOf(depth);
  const [plain, inverted] = [tableOf(depth, own), tableOf({ ...depth, inverted: true }, own)];
  assert.deepEqual([plain[0], inverted[0]], [0, 0]);
  assert.deepEqual([plain[1], inverted[1], plain[4000], inverted[4000]], [0, 255, 255, 0]); // -1000 and 999.5
});

test("a narrow window tells values apart that the wide one shows alike", () => {
  const wide = tableOf(depth, { center: 0, width: 2000, curve: "LINEAR" });
  const narrow = tableOf(depth, { center: 0, width: 20, curve: "LINEAR" });
  const [a, b] = [2001, 2005]; // 0 and 2
  assert.ok(wide[b] - wide[a] <= 1 && narrow[b] - narrow[a] > 25);
});

test("a drag to the right widens, one downwards moves the window up; a drag back undoes it", () => {
  const own = startOf(depth);
  const there = dragged(own, 100, 30);
  assert.ok(there.width > 600 && there.center > 0);
  assert.ok(Math.abs(dragged(own, -100, 0).width - 400 / (there.width / 400)) < 1e-9);
  assert.deepEqual(dragged(dragged(own, 0, 30), 0, -30), own);
  assert.deepEqual([widened(own, 2).width, shifted(own, 0.1).center], [800, 40]);
});

test("a window stays one that shows something", () => {
  const span = spanOf(depth, Uint16Array.of(0, 1, 2001, 4001));
  assert.deepEqual(span, { step: 0.5, low: -1000, high: 1000 });
  const held = (center, width, curve = "LINEAR") => sensible({ center, width, curve }, span);
  assert.deepEqual(held(-5000, 0), { center: -1000, width: 2, curve: "LINEAR" });
  assert.deepEqual(held(5000, 1e9), { center: 1000, width: 4000, curve: "LINEAR" });
  const flat = spanOf(EIGHT, Uint16Array.of(0, 0));
  assert.ok(sensible({ center: 9, width: 9, curve: "LINEAR_EXACT" }, flat).width > 0);
});

test("levels come as differences along rows, low bytes before high bytes", () => {
  const rows = [[5, 3, 65535], [1, 2, 300]];
  const steps = rows.flatMap((row) => row.map((v, i) => (v - (row[i - 1] ?? 0) + 65536) % 65536));
  const bytes = Uint8Array.from([...steps.map((d) => d & 255), ...steps.map((d) => d >> 8)]);
  assert.deepEqual([...levelsOf(bytes, 3)], rows.flat());
});

test("the readout names width, level and depth, and what the server no longer has", () => {
  assert.equal(readoutOf({ center: 1200.4, width: 400 }, { step: 1, bits: 12 }), "W 400 L 1200 · 12 bits");
  assert.equal(readoutOf({ center: 0.25, width: 0.5 }, { step: 1e-5, bits: 32 }), "W 0.500 L 0.250 · 32 bits");
  assert.equal(readoutOf({ center: 127.5, width: 255 }, { step: 1, bits: 8 }, 12), "W 255 L 128 · 8 of 12 bits");
});
