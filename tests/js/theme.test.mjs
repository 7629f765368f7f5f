import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const css = readFileSync(new URL("../../xraypneu/app/dashboard.css", import.meta.url), "utf8");

// Colours by name of the first block that a selector begins.
function coloursOf(selector) {
  const block = css.split(`${selector} {`)[1].split("}")[0];
  return Object.fromEntries([...block.matchAll(/--([\w-]+): (#[0-9a-f]{6});/g)].map((m) => [m[1], m[2]]));
}

function luminance(colour) {
  const [r, g, b] = [1, 3, 5].map((i) => {
    const v = parseInt(colour.slice(i, i + 2), 16) / 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

const light = coloursOf(":root");
const dark = { ...light, ...coloursOf(':root[data-theme="dark"]') };
const VERDICTS = ["well", "ill", "unsure", "out-of-scope", "not-radiograph"];
const GROUNDS = ["ground", "panel", "raised", "chosen"];
const texts = [
  ...GROUNDS.flatMap((ground) => ["ink", ...VERDICTS].map((ink) => [ink, ground])),
  ...GROUNDS.map((ground) => ["soft", ground]),
  ...VERDICTS.map((name) => [name, `${name}-ground`]),
  ["accent-ink", "accent"],
  ["accent-ink", "accent-hover"],
  ["danger-ink", "danger"],
  ["danger-ink", "danger-hover"],
  ["notice", "notice-ground"],
  ["gone", "gone-ground"],
  ["film-ink", "film"],
];
const edges = ["edge", "focus"].flatMap((name) => ["ground", "panel"].map((ground) => [name, ground]));

for (const [name, theme] of Object.entries({ light, dark }))
  test(`texts have a contrast of 4.5, edges of controls one of 3: ${name}`, () => {
    const low = (pairs, least) => pairs.filter(([a, b]) => !(contrast(theme[a], theme[b]) >= least));
    const told = ([a, b]) => `${a} on ${b}: ${contrast(theme[a], theme[b]).toFixed(2)}`;
    assert.deepEqual(low(texts, 4.5).map(told), []);
    assert.deepEqual(low(edges, 3).map(told), []);
  });

test("each colour of the light theme has one in the dark, but the film's", () => {
  const own = coloursOf(':root[data-theme="dark"]');
  assert.deepEqual(Object.keys(light).filter((name) => !(name in own)), ["film", "film-ink"]);
});

test("colours are written where they are named, and nowhere else", () => {
  const rules = css.replace(/:root[^{]*\{[^}]*\}/g, "");
  assert.deepEqual(rules.match(/#[0-9a-f]{3,8}\b(?=[^{]*;)/gi) ?? [], []);
});
