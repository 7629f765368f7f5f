import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { Gatherer } from "../../xraypneu/app/gather.js";

function counted(rest) {
  const seen = { times: 0 };
  return { seen, gatherer: new Gatherer(() => (seen.times += 1), rest) };
}

test("what is asked for often is done at once, and once more at the end", async () => {
  const { seen, gatherer } = counted(200);
  for (let i = 0; i < 100; i++) gatherer.ask();
  assert.equal(seen.times, 1);
  await sleep(300);
  assert.equal(seen.times, 2);
  await sleep(80);
  assert.equal(seen.times, 2); // nothing was asked for since
});

test("what was asked for can be hurried, and is not done again", async () => {
  const { seen, gatherer } = counted(40);
  gatherer.hurry();
  assert.equal(seen.times, 0); // nothing was asked for
  gatherer.ask();
  gatherer.ask();
  gatherer.hurry();
  assert.equal(seen.times, 2);
  await sleep(80);
  assert.equal(seen.times, 2);
});
