import assert from "node:assert/strict";
import { test } from "node:test";

import { dropped } from "../../xraypneu/app/drop.js";

test("a folder that is dropped is a row that says what to drop", async () => {
  const files = [{ name: "a.png", size: 3 }, { name: "films", size: 0 }];
  const text = { kind: "string" };
  const items = [text, { kind: "file", webkitGetAsEntry: () => null }];
  items.push({ kind: "file", webkitGetAsEntry: () => ({ isDirectory: true }) });
  const [film, folder] = dropped({ files, items });
  assert.equal(film, files[0]);
  assert.ok(folder.name === "films" && folder.size > 0); // an empty file would be refused as one
  await assert.rejects(folder.open(), /it is a folder. Drop its films/);
  assert.deepEqual(dropped({ files }), files); // a browser that tells no folders
});
