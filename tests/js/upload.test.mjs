import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { Pace, Uploader } from "../../xraypneu/app/upload.js";

const file = (name, bytes) => Object.assign(new Blob([new Uint8Array(bytes)]), { name });

function uploader({ answer = () => {}, mark } = {}) {
  const sent = [];
  const notes = [];
  const view = {
    begin: (f) => ({ name: f.name }),
    progress: () => {},
    end: (item, text, bad) => notes.push([item.name, text, bad]),
    cancel: (item) => notes.push([item.name, "cancelled"]),
  };
  const counts = { pings: 0 };
  const u = new Uploader({
    send: (m, buffers) => {
      sent.push(m);
      queueMicrotask(() => answer(u, m, buffers));
    },
    ping: () => counts.pings,
    chunk: 10,
    maxBytes: 1000,
    view,
    mark,
  });
  return { u, sent, notes, counts };
}

const kinds = (sent, id) => sent.filter((m) => m.id === id).map((m) => m.kind);
// as the server: each piece is acknowledged, the whole film gets its row
const whole = (sizes) => (u, m, buffers) => {
  if (m.kind !== "chunk") return;
  const received = m.at + buffers[0].byteLength;
  u.ack(m.id, received);
  if (received === sizes[m.id]) u.end(m.id, "NORMAL", false);
};

test("files go one after the other, in pieces", async () => {
  const { u, sent, notes } = uploader({ answer: whole({ u1: 25, u2: 5 }) });
  u.take([file("a.png", 25), file("b.png", 5)]);
  assert.equal(u.pending, 2);
  await sleep(50);
  assert.deepEqual(sent.map((m) => `${m.kind} ${m.id} ${m.at ?? ""}`.trim()), [
    "begin u1", "chunk u1 0", "chunk u1 10", "chunk u1 20", "begin u2", "chunk u2 0",
  ]);
  assert.deepEqual(notes, [["a.png", "NORMAL", false], ["b.png", "NORMAL", false]]);
  assert.equal(u.pending, 0);
});

test("the next file is sent while the server reads one, and no further one", async () => {
  const { u, sent } = uploader(); // the server has all pieces, and no row yet
  u.take([1, 2, 3, 4].map((n) => file(`${n}.png`, 5)));
  await sleep(30);
  const begun = () => [...new Set(sent.map((m) => m.id))];
  assert.deepEqual(begun(), ["u1", "u2"]);
  u.end("u1", "NORMAL", false);
  await sleep(30);
  assert.deepEqual(begun(), ["u1", "u2", "u3"]);
  assert.equal(u.cancel(), 1); // the two that the server has are read
  for (const id of ["u2", "u3"]) u.end(id, "NORMAL", false);
  await sleep(30);
  assert.deepEqual([begun().length, u.pending, u.busy], [3, 0, false]);
});

test("only a few pieces are ahead of what the server has taken", async () => {
  const { u, sent } = uploader();
  u.take([file("a.png", 200)]);
  await sleep(50);
  assert.equal(kinds(sent, "u1").length, 1 + 5);
  u.ack("u1", 20);
  await sleep(20);
  assert.equal(kinds(sent, "u1").length, 1 + 7);
  u.forget(); // or it would wait for ever
});

test("forgetting in the middle of a file ends it, and the next one is read", async () => {
  const { u, sent, notes } = uploader({ answer: whole({ u4: 5 }) });
  u.take([file("long.png", 200), file("next.png", 200), file("waiting.png", 200)]);
  u.ack("u1", 0);
  await sleep(30);
  const before = kinds(sent, "u1").length;
  assert.ok(before > 1);
  u.forget();
  assert.equal(u.pending, 0);
  u.take([file("new.png", 5)]);
  await sleep(50);
  assert.equal(kinds(sent, "u1").length, before);
  assert.deepEqual(kinds(sent, "u3"), []); // what waited is never sent
  assert.deepEqual(notes, [["new.png", "NORMAL", false]]);
});

test("a server that knows nothing of a file is told of it, and doesn't stop the queue", async () => {
  const { u, sent, notes } = uploader({
    answer: (self, m, b) => (m.id === "u1" && m.kind === "chunk" ? self.gone(m.id) : whole({ u2: 5 })(self, m, b)),
  });
  u.take([file("a.png", 25), file("b.png", 5)]);
  await sleep(50);
  assert.equal(kinds(sent, "u1").filter((k) => k === "refused").length, 1); // it answers with a row for table and CSV
  assert.match(sent.find((m) => m.kind === "refused").why, /interrupted/);
  assert.deepEqual([notes, u.pending], [[["b.png", "NORMAL", false]], 1]);
  u.end("u1", "the connection was interrupted", true);
  assert.equal(u.pending, 0);
});

test("two views of a session never give two files one id", () => {
  const [one, other] = ["a", "b"].map((mark) => uploader({ mark }));
  for (const { u } of [one, other]) u.take([file("a.png", 5)]);
  assert.deepEqual([one, other].map(({ sent }) => sent[0].id), ["ua-1", "ub-1"]);
});

test("pieces that never arrive are noticed by the ping after them", async () => {
  const { u, sent, notes, counts } = uploader();
  counts.pings = 3;
  u.take([file("a.png", 15)]);
  await sleep(20);
  u.pong(3); // asked before the last piece
  assert.deepEqual(kinds(sent, "u1"), ["begin", "chunk", "chunk"]);
  counts.pings = 4;
  u.pong(4);
  await sleep(20);
  assert.equal(sent.at(-1).kind, "refused");
  assert.match(sent.at(-1).why, /interrupted/);
  assert.deepEqual([u.pending, u.busy], [1, false]); // the server says what became of it, the queue goes on
  u.pong(5); // this was lost too
  assert.deepEqual(kinds(sent, "u1").slice(3), ["refused", "refused"]);
  u.end("u1", "read", false); // only its row was lost
  assert.deepEqual([notes, u.pending], [[["a.png", "read", false]], 0]);
});

test("files that can't go are refused, and wait for their row like any other", async () => {
  const { u, sent, notes } = uploader();
  u.take([file("empty.png", 0), file("huge.png", 2000)]);
  await sleep(20);
  assert.deepEqual(sent.map((m) => m.kind), ["refused", "refused"]);
  assert.match(notes[0][1], /empty/);
  assert.match(notes[1][1], /over the limit/);
  assert.equal(u.pending, 2);
  assert.equal(u.end("u1", "the file is empty", true), true);
  assert.equal(u.end("p1", "NORMAL", false), false); // no upload of this page
  assert.equal(u.pending, 1);
  assert.equal(notes.length, 2);
});

test("a file that the browser can't read is refused", async () => {
  const { u, sent } = uploader();
  const broken = { name: "gone.png", size: 5, slice: () => ({ arrayBuffer: () => Promise.reject(new Error("gone")) }) };
  u.take([broken]);
  await sleep(20);
  assert.deepEqual(sent.map((m) => m.kind), ["begin", "refused"]);
});

test("on a slow line pieces are small, on a fast one large", async () => {
  const sizes = async (took) => {
    const seen = [];
    const view = { begin: () => ({}), progress: () => {}, end: () => {} };
    const u = new Uploader({
      send: (m, buffers) => {
        if (m.kind !== "chunk") return;
        seen.push(buffers[0].byteLength);
        u.active.get(m.id).since.get = () => Date.now() - took;
        queueMicrotask(() => u.ack(m.id, m.at + buffers[0].byteLength));
      },
      ping: () => 0,
      chunk: 524288,
      maxBytes: 1e9,
      view,
    });
    u.take([file("a.png", 2e6)]);
    await sleep(200);
    u.forget();
    return seen;
  };
  const [slow, fast] = [await sizes(10000), await sizes(10)];
  assert.ok(slow[0] === 65536 && Math.max(...slow.slice(3)) <= 16384, slow.slice(0, 9));
  assert.ok(fast[0] === 65536 && Math.max(...fast) === 524288, fast);
});

test("the time left follows the pace of the last files, and is not told before there is one", () => {
  let now = 0;
  const pace = new Pace(() => now);
  pace.begin();
  const end = (seconds) => {
    now += 1000 * seconds;
    pace.ended();
  };
  for (let i = 0; i < 2; i++) end(1);
  assert.equal(pace.left(10), null);
  end(1);
  assert.deepEqual([pace.left(10), pace.left(0)], [10, null]);
  for (let i = 0; i < 30; i++) end(5); // a slower line
  assert.equal(pace.left(10), 50);
  pace.begin();
  assert.equal(pace.left(10), null);
});

test("cancelled: what waits is not sent, what has begun is told to the server, what it has whole is read", async () => {
  const { u, sent, notes } = uploader(); // no answer: the first file stops after the pieces ahead
  u.take([file("a.png", 200), file("b.png", 5), file("c.png", 5)]);
  await sleep(30);
  assert.equal(u.cancel(), 3);
  assert.deepEqual(notes, [["b.png", "cancelled"], ["c.png", "cancelled"]]);
  assert.deepEqual(sent.at(-1), { kind: "refused", id: "u1", name: "a.png", why: "cancelled" });
  assert.equal(u.pending, 1); // the server's row is waited for
  u.end("u1", "cancelled", true);
  u.take([file("d.png", 5)]);
  await sleep(30);
  assert.deepEqual(kinds(sent, "u4"), ["begin", "chunk"]);
  assert.equal(u.cancel(), 0); // sent whole
  assert.equal(u.pending, 1);
});

test("a film of an archive is unpacked when it is its turn; one that can't be is refused, the next goes on", async () => {
  const opened = [];
  const member = (name, bytes, fail) => ({
    name,
    size: bytes,
    open: async () => {
      opened.push(name);
      if (fail) throw new Error(fail);
      return new Blob([new Uint8Array(bytes)]);
    },
  });
  const { u, sent, notes } = uploader({ answer: whole({ u1: 5, u3: 5 }) });
  u.take([member("a.png", 5), member("b.png", 5, "it is damaged"), member("c.png", 5), member("d.png", 2000)]);
  await sleep(50);
  assert.deepEqual(opened, ["a.png", "b.png", "c.png"]); // the size of d.png is refused before
  assert.deepEqual(kinds(sent, "u1"), ["begin", "chunk"]);
  assert.equal(sent.find((m) => m.id === "u1").name, "a.png");
  const said = notes.slice(0, 3).map(([name, text]) => `${name}: ${text}`);
  assert.deepEqual(said, ["a.png: NORMAL", "b.png: it is damaged", "c.png: NORMAL"]);
});

test("films of an archive whose directory was being read are not taken after Cancel or Delete all", async () => {
  const { u } = uploader();
  const read = async () => ["film"];
  assert.deepEqual(await u.unlessStopped(read()), ["film"]);
  const cancelled = u.unlessStopped(read());
  assert.deepEqual([u.cancel(), u.cancel()], [1, 0]); // the archive
  assert.equal(await cancelled, null);
  const deleted = u.unlessStopped(read());
  u.forget();
  assert.equal(await deleted, null);
});
