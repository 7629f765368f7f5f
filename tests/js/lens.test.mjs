import assert from "node:assert/strict";
import { test } from "node:test";

import { factorOf, FIT, movedBy, passes, placed, zoomedBy } from "../../xraypneu/app/lens.js";

const spot = (lens, at) => [(at.x - lens.x) / lens.zoom, (at.y - lens.y) / lens.zoom];

test("what lies under the pointer stays there, in and out", () => {
  const at = { x: 0.1, y: -0.2 };
  let lens = zoomedBy(FIT, 3, { x: 0, y: 0 });
  const before = spot(lens, at);
  for (const factor of [1.25, 1.25, 0.8]) {
    lens = zoomedBy(lens, factor, at);
    spot(lens, at).forEach((v, i) => assert.ok(Math.abs(v - before[i]) < 1e-9));
  }
});

test("zoom goes from the whole film to six times, and back to the middle", () => {
  assert.equal(zoomedBy(FIT, 100, { x: 0.5, y: 0.5 }).zoom, 6);
  const moved = movedBy({ zoom: 3, x: 0, y: 0 }, -9, 9);
  assert.deepEqual(zoomedBy(moved, 0.01, { x: 0.3, y: 0.3 }), FIT);
});

test("a zoomed film is moved until its edge is in the middle, a whole one not at all", () => {
  assert.deepEqual(movedBy({ zoom: 2, x: 0, y: 0 }, 5, -5), { zoom: 2, x: 1, y: -1 });
  assert.deepEqual(movedBy({ zoom: 2, x: 0, y: 0 }, 0.25, 0), { zoom: 2, x: 0.25, y: 0 });
  assert.deepEqual(movedBy(FIT, 0.2, 0.2), FIT);
});

test("a film that fits fills its box; a zoomed one lies around the middle", () => {
  assert.deepEqual(placed(FIT), { width: "100%", left: "0%", top: "0%" });
  assert.deepEqual(placed({ zoom: 2, x: 0.25, y: 0 }), { width: "200%", left: "-25%", top: "-50%" });
});

test("wheels that count in lines zoom like those that count in pixels, and a jump is bounded", () => {
  const notch = factorOf({ deltaY: -100, deltaMode: 0 });
  assert.ok(notch > 1.2 && notch < 1.4 && Math.abs(factorOf({ deltaY: -3, deltaMode: 1 }) - notch) < 0.01);
  assert.ok(factorOf({ deltaY: 1e6, deltaMode: 0 }) > 0.5);
});

test("turned back over a whole film, the wheel scrolls the page, but not at the end of zooming out", () => {
  const back = { deltaY: 100 };
  assert.equal(passes(FIT, back, 5000), true);
  assert.equal(passes(FIT, back, 100), false);
  assert.equal(passes(FIT, { deltaY: -100 }, 5000), false);
  assert.equal(passes(FIT, { deltaY: 100, ctrlKey: true }, 5000), false); // else the browser would zoom the page
  assert.equal(passes({ zoom: 2, x: 0, y: 0 }, back, 5000), false);
});
