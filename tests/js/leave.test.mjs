import assert from "node:assert/strict";
import { test } from "node:test";

import { askBeforeLeaving } from "../../xraypneu/app/leave.js";

function left(unsaved) {
  const [target, ended] = [new EventTarget(), []];
  target.addEventListener("beforeunload", () => ended.push("session")); // as Voilà does
  const stop = askBeforeLeaving(target, () => unsaved.size > 0);
  const asked = () => !target.dispatchEvent(new Event("xp-leave", { cancelable: true })); // as the template does
  return { ended, asked, stop, gone: () => target.dispatchEvent(new Event("pagehide")) };
}

test("who leaves with everything saved is not asked, and Voilà's own listener ends the session", () => {
  const { ended, asked, gone } = left(new Set());
  assert.equal(asked(), false);
  gone();
  assert.deepEqual(ended, []);
});

test("who leaves with unsaved results is asked, and the session ends only once the page is left", () => {
  const { ended, asked, gone, stop } = left(new Set(["u1"]));
  assert.deepEqual([asked(), asked()], [true, true]); // stayed once
  assert.deepEqual(ended, []);
  gone();
  gone();
  assert.deepEqual(ended, ["session"]);
  stop();
  assert.equal(asked(), false);
});

test("who stays, saves and leaves is not asked again", () => {
  const unsaved = new Set(["u1"]);
  const { ended, asked, gone } = left(unsaved);
  assert.equal(asked(), true);
  unsaved.clear();
  assert.equal(asked(), false);
  gone();
  assert.deepEqual(ended, []); // Voilà's own listener did it
});
