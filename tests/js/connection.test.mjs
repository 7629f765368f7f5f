import assert from "node:assert/strict";
import { test } from "node:test";

import { Downloader } from "../../xraypneu/app/download.js";
import { Heartbeat } from "../../xraypneu/app/heartbeat.js";

function downloader() {
  const sent = [];
  const said = [];
  const saved = [];
  const d = new Downloader({
    send: (m) => sent.push(m),
    ping: () => 5,
    say: (text) => said.push(text),
    chunk: 10,
    save: (name, blob) => saved.push([name, blob.size]),
  });
  return { d, sent, said, saved };
}
const piece = (number, last) => ({ name: "x.csv", type: "text/csv", file: 1, number, last, size: 15 });

test("a file arrives in pieces, one lost request among them", () => {
  const { d, sent, said, saved } = downloader();
  d.get("csv");
  d.get("html"); // its pieces would be taken for the other's
  assert.match(said.at(-1), /Wait/);
  d.piece(piece(0, false), new Uint8Array(10));
  d.pong(5); // sent before the request
  d.pong(6);
  assert.deepEqual(sent.slice(1), [1, 1].map((number) => ({ kind: "part", file: 1, number })));
  d.piece(piece(1, true), new Uint8Array(5));
  d.piece(piece(1, true), new Uint8Array(5)); // the answer to the repeated request
  assert.deepEqual(saved, [["x.csv", 15]]);
});

test("a download that ends without its file says so", () => {
  const { d } = downloader();
  assert.equal(d.stop(), "");
  d.get("html");
  assert.match(d.stop(), /ended without its file/); // after an error of the server
  assert.equal(d.stop(), "");
});

function heart(more = {}) {
  const seen = [];
  const clock = { t: 0 };
  const h = new Heartbeat({
    send: (m) => seen.push(m.kind),
    patience: 15_000,
    rest: 100_000,
    lost: () => seen.push("lost"),
    recovered: () => seen.push("recovered"),
    now: () => clock.t,
    ...more,
  });
  const beat = (n, every = 3000) => {
    for (let i = 0; i < n; i++) {
      clock.t += every;
      h.beat();
    }
  };
  return { h, seen, beat, clock };
}

test("a server that is silent for too long is lost, once, until it answers", () => {
  const { h, seen, beat } = heart();
  beat(20);
  assert.equal(seen.filter((s) => s === "lost").length, 1);
  h.hear();
  assert.equal(seen.at(-1), "recovered");
});

test("a page that slept doesn't take its session for lost", () => {
  const { seen, beat } = heart();
  beat(3, 60_000);
  assert.ok(!seen.includes("lost"));
});

test("an unused page stops asking", () => {
  const { h, seen, beat } = heart();
  beat(40);
  const before = seen.length;
  beat(10);
  assert.equal(seen.length, before);
  h.use();
  beat(1);
  assert.equal(seen.at(-1), "ping");
});

test("a page that nobody touches goes on asking while uploads are unfinished, and notices a lost server", () => {
  const uploads = { pending: 0 };
  const { h, seen, beat } = heart({ busy: () => uploads.pending > 0 });
  for (let i = 0; i < 40; i++) {
    beat(1);
    h.hear();
  }
  seen.length = 0;
  beat(10); // at rest: not even asked, so not lost
  assert.deepEqual(seen, []);
  uploads.pending = 3; // a file was dropped: no key, no button
  beat(4);
  assert.deepEqual(seen, ["ping", "ping", "ping", "ping"]);
  beat(3);
  assert.equal(seen.filter((s) => s === "lost").length, 1);
  beat(100);
  const before = seen.length;
  beat(10); // a lost server is not asked for ever
  assert.equal(seen.length, before);
});

test("answers to the pings of another view say nothing about this one", () => {
  const { h, beat } = heart({ first: 500 });
  beat(2);
  assert.deepEqual([500, 501, 502, 503, 2].map((n) => h.isMine(n)), [false, true, true, false, false]);
});
