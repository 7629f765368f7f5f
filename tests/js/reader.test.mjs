import assert from "node:assert/strict";
import { test } from "node:test";

import { actionOf } from "../../xraypneu/app/keys.js";
import { pressed, said } from "../../xraypneu/app/reader.js";
import { State } from "../../xraypneu/app/state.js";

const row = { id: "u1", file: "a.png", verdict: "NORMAL" };

test("the same verdict again takes it back", () => {
  assert.deepEqual(["", "UNSURE", "NORMAL"].map((before) => pressed("NORMAL", before)), ["NORMAL", "NORMAL", ""]);
});

test("what was said fits a line, and nothing is nothing", () => {
  assert.equal(said({ verdict: "UNSURE", comment: "old scar" }), "UNSURE: old scar");
  const some = [{ verdict: "", comment: "x" }, { verdict: "NORMAL", comment: "" }, undefined];
  assert.deepEqual(some.map((own) => said(own)), ["x", "NORMAL", ""]);
});

test("a reading is unsaved until a file has it, and no row that comes again replaces it", () => {
  const state = new State(0.3);
  state.arrive(row, true);
  state.saved(["u1"]);
  state.note("u1", { verdict: "UNSURE", comment: "" });
  assert.deepEqual([...state.unsaved], ["u1"]);
  state.arrive({ ...row, reader: { verdict: "NORMAL", comment: "" } }, true);
  assert.equal(state.rows.get("u1").reader.verdict, "UNSURE");
  state.arrive({ ...row, id: "u2", reader: { verdict: "NORMAL", comment: "" } }, false); // for another view
  assert.equal(state.rows.get("u2").reader.verdict, "NORMAL");
});

test("a reading that comes while a report is on its way is in no file", () => {
  const state = new State(0.3);
  for (const id of ["u1", "u2"]) state.arrive({ ...row, id }, true);
  state.note("u2", { verdict: "UNSURE", comment: "" });
  assert.equal(state.unsavedReadings, 1);
  state.report(["u1", "u2"]);
  state.note("u1", { verdict: "NORMAL", comment: "" });
  state.saved(state.reported);
  assert.deepEqual([...state.unsaved], ["u1"]);
  state.note("u1", { verdict: "", comment: "" }); // taken back
  assert.equal(state.unsavedReadings, 0);
});

test("the reader's keys belong to text fields where those have the focus", () => {
  const press = (key, place) => actionOf({ key }, place, true);
  assert.deepEqual(["1", "2", "3", "c"].map((k) => press(k, "page")), ["normal", "ill", "unsure", "comment"]);
  assert.deepEqual(["1", "c"].map((k) => press(k, "typed")), [undefined, undefined]);
});
