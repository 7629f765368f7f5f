import assert from "node:assert/strict";
import { test } from "node:test";

import { csvName, csvOf, unread } from "../../xraypneu/app/csv.js";

const columns = ["file", "threshold", "error"];

test("the CSV begins with a byte order mark, quotes what must be, and has the threshold that is set now", () => {
  const rows = [
    { threshold: 0.99, cells: ['Müller, "A".png', "0.314000", ""] },
    { error: "a text", cells: ["b\nc.txt", "", "a text"] },
  ];
  const header = "\ufefffile,threshold,error,reader_verdict,reader_comment,truth\n";
  assert.equal(csvOf(columns, rows), `${header}"Müller, ""A"".png",0.990000,,,,\n"b\nc.txt",,a text,,,\n`);
  assert.equal(csvOf(columns, []), header);
});

test("what the reader said stands last, and no spreadsheet executes it", () => {
  const reader = { verdict: "UNSURE", comment: '=HYPERLINK("x"); -1, old' };
  const [, line] = csvOf(columns, [{ threshold: 0.3, cells: ["a.png", "", ""], reader, truth: "NORMAL" }]).split("\n");
  assert.equal(line, `a.png,0.300000,,UNSURE,"'=HYPERLINK(""x"");' -1, old",NORMAL`);
});

test("the name of the file tells when it was saved", () => {
  assert.equal(csvName(new Date(2026, 0, 2, 3, 4, 5)), "xraypneu-20260102-030405.csv");
});

test("a file that is saved before all were read says how many it lacks", () => {
  assert.deepEqual([unread(0), unread(1).slice(-13), unread(22).slice(-15)], ["", " 1 more file.", " 22 more files."]);
});
