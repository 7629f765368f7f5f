import assert from "node:assert/strict";
import { test } from "node:test";

import { actionOf, KEYS, placeOf } from "../../xraypneu/app/keys.js";
import { Memory } from "../../xraypneu/app/storage.js";
import { nextTheme } from "../../xraypneu/app/theme.js";

const press = (key, place = "page", letters = true, more = {}) => actionOf({ key, ...more }, place, letters);

test("films follow each other by J, K and arrows, capitals too", () => {
  assert.deepEqual(["j", "J", "ArrowRight"].map((k) => press(k)), ["next", "next", "next"]);
  assert.deepEqual(["k", "K", "ArrowLeft"].map((k) => press(k)), ["previous", "previous", "previous"]);
  assert.deepEqual(["ArrowDown", "ArrowUp"].map((k) => press(k)), [undefined, undefined]); // they scroll the page
  assert.deepEqual(["ArrowDown", "ArrowUp"].map((k) => press(k, "list")), ["next", "previous"]);
});

test("keys stay with whom they belong to: typed text, sliders, wide tables, the browser", () => {
  for (const key of ["j", "m", "?", "ArrowRight"]) assert.equal(press(key, "typed"), undefined);
  for (const place of ["slider", "scrolled"]) {
    assert.equal(press("ArrowRight", place), undefined);
    assert.equal(press("m", place), "map");
  }
  for (const held of ["ctrlKey", "metaKey", "altKey"])
    assert.equal(press("f", "page", true, { [held]: true }), undefined);
  for (const key of ["Tab", "Enter", " ", "Escape"]) assert.equal(press(key), undefined);
});

test("letters can be turned off, arrows remain (WCAG 2.1.4)", () => {
  for (const key of ["j", "m", "f", "?", "+", "0"]) assert.equal(press(key, "page", false), undefined);
  assert.equal(press("ArrowRight", "page", false), "next");
});

test("a key that is held steps on, but switches only once", () => {
  assert.equal(press("j", "page", true, { repeat: true }), "next");
  assert.equal(press("m", "page", true, { repeat: true }), undefined);
});

test("Shift and an arrow move the film", () => {
  assert.equal(press("ArrowLeft", "page", true, { shiftKey: true }), "left");
});

test("every letter of the help does something", () => {
  for (const key of KEYS.flatMap(([a, b]) => [a, b]).filter((k) => /^[A-Z0?+]$/.test(k))) assert.ok(press(key), key);
});

test("the place of keys follows from the element", () => {
  assert.equal(placeOf({ matches: (s) => s === "[type=range]" }), "slider");
  assert.equal(placeOf({ matches: (s) => s === "[role=listbox]" }), "list");
  assert.equal(placeOf({ matches: () => false }), "page");
  assert.equal(placeOf(null), "page");
});

const storage = () => {
  const kept = new Map();
  const [getItem, setItem] = [(k) => kept.get(k) ?? null, (k, v) => kept.set(k, v)];
  return { kept, getItem, setItem, removeItem: (k) => kept.delete(k) };
};

test("the first change of theme is seen, the third is back", () => {
  for (const [system, order] of [["dark", ["light", "dark", "system"]], ["light", ["dark", "light", "system"]]]) {
    let choice = "system";
    assert.deepEqual(order.map(() => (choice = nextTheme(choice, system))), order);
  }
});

test("what is kept is found again; a storage that refuses is none", () => {
  const store = storage();
  const memory = new Memory(() => store);
  memory.keep("theme", "dark");
  assert.equal(new Memory(() => store).recall("theme"), "dark");
  memory.keep("theme", "");
  assert.equal(store.kept.size, 0);
  const denied = new Memory(() => {
    throw new Error("SecurityError");
  });
  denied.keep("theme", "dark");
  assert.equal(denied.recall("theme"), null);
});
