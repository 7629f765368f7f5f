import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateRawSync } from "node:zlib";

import { listenToPaste, pasted } from "../../xraypneu/app/paste.js";
import { crcOf, isZip, membersOf, nameOf, unsafe, ZipError } from "../../xraypneu/app/zip.js";

const bytes = (text) => new TextEncoder().encode(text);
const limits = { most: 3, maxBytes: 1000 };

function record(signature, fields, ...rest) {
  const head = new Uint8Array(4 + fields.reduce((sum, [n]) => sum + n, 0));
  const view = new DataView(head.buffer);
  view.setUint32(0, signature, true);
  let at = 4;
  for (const [n, value] of fields) {
    if (n === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += n;
  }
  return [head, ...rest];
}

// An archive of members {name, text, ...}; what else a member has replaces what would be right.
function zip(members, { count = members.length } = {}) {
  const [parts, directory] = [[], []];
  let at = 0;
  for (const { name, text = "film", ...odd } of members) {
    const [content, coded] = [bytes(text), bytes(name)];
    const packed = odd.stored ? content : deflateRawSync(content);
    const right = { flags: 0x800, method: odd.stored ? 0 : 8, crc: crcOf(content), size: content.length };
    const m = { ...right, mode: 0o100644, ...odd };
    const sizes = [[4, m.crc], [4, packed.length], [4, m.size], [2, coded.length]];
    const of = [[2, 20], [2, m.flags], [2, m.method], [4, 0], ...sizes];
    const place = [[2, 0], [2, 0], [2, 0], [2, 0], [4, m.mode * 65536], [4, at]];
    directory.push(...record(0x02014b50, [[2, 0x0314], ...of, ...place], coded));
    const local = record(0x04034b50, [...of, [2, 0]], coded, packed);
    parts.push(...local);
    at += local.reduce((sum, part) => sum + part.length, 0);
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = record(0x06054b50, [[2, 0], [2, 0], [2, count], [2, count], [4, size], [4, at], [2, 0]]);
  return new Blob([...parts, ...directory, ...end]);
}

const messageOf = (e) => {
  assert.ok(e instanceof ZipError, e);
  return e.message;
};
const why = (blob) => membersOf(blob, limits).then(() => "", messageOf);
const opened = (film) => film.open().then((blob) => blob.text(), messageOf);

test("films come one by one, by their names without folders, and without what systems keep beside them", async () => {
  const a = { name: "NORMAL/a.png", text: "one" };
  const c = { name: "b\\c.png", text: "two", stored: true };
  const beside = [{ name: "NORMAL/", text: "" }, { name: "__MACOSX/NORMAL/._a.png" }, { name: "x/.DS_Store" }];
  const films = await membersOf(zip([a, c, ...beside]), limits);
  assert.deepEqual(films.map((f) => [f.name, f.size]), [["a.png", 3], ["c.png", 3]]);
  assert.deepEqual(await Promise.all(films.map(opened)), ["one", "two"]);
});

test("films of one name in several folders keep these, and no name is longer than a message takes", async () => {
  const members = ["p1/IM-1.dcm", "./p2\\IM-1.dcm", "p2/IM-2.dcm"].map((name) => ({ name }));
  const films = await membersOf(zip(members), limits);
  assert.deepEqual(films.map((f) => f.name), ["p1 › IM-1.dcm", "p2 › IM-1.dcm", "IM-2.dcm"]);
  const [long] = await membersOf(zip([{ name: `${"[".repeat(60_000)}.png` }]), limits);
  assert.deepEqual([long.name.length, long.name.endsWith("[.png")], [300, true]);
});

test("names without the flag for UTF-8 are read in the code of their maker", async () => {
  const [DOS, UNIX, NTFS] = [0, 3, 11];
  assert.equal(nameOf(Uint8Array.of(0x4d, 0x81, 0x6c, 0x6c, 0x65, 0x72), false, DOS), "Müller");
  assert.equal(nameOf(Uint8Array.of(0x4d, 0xfc, 0x6c, 0x6c, 0x65, 0x72), false, UNIX), "Müller"); // windows-1252
  assert.deepEqual([0xe1, 0xff, 0x82].map((c) => nameOf(Uint8Array.of(c), false, NTFS)), ["ß", "\u00a0", "é"]);
  for (const maker of [DOS, UNIX]) assert.equal(nameOf(bytes("Łukasz.dcm"), false, maker), "Łukasz.dcm"); // macOS
  const [film] = await membersOf(zip([{ name: "Łukasz.dcm", flags: 0 }]), limits);
  assert.equal(film.name, "Łukasz.dcm");
});

test("an archive that could do harm is refused whole", async () => {
  const of = (more) => why(zip([{ name: "a.png" }, { name: "b.png", ...more }]));
  for (const name of ["../b.png", "a/../../b", "/b.png", "C:\\b.png", "a\0b", "d/".repeat(41) + "b"])
    assert.match(await of({ name }), /^its member .* Nothing of it was read/s, name);
  assert.match(await of({ mode: 0o120777 }), /is a link/);
  assert.match(await of({ mode: 0o010644 }), /device, pipe or socket/);
  assert.match(await of({ flags: 1 }), /encrypted/);
  assert.match(await of({ method: 14 }), /method that is not supported/);
  assert.match(await of({ size: 4e9 }), /decompression bomb/);
  assert.match(unsafe("a/c:b.png"), /absolute path/);
  for (const name of ["a..b/c.png", "A: x.png", "p/A: x/b.png"]) assert.equal(unsafe(name), "");
});

test("counts are limited before anything is unpacked", async () => {
  const many = (n) => Array.from({ length: n }, (_, i) => ({ name: `${i}.png` }));
  assert.match(await why(zip(many(4))), /holds 4 films; a session takes 3/);
  assert.match(await why(zip(many(1), { count: 60000 })), /holds 60000 files/);
  assert.match(await why(zip(many(1), { count: 0xffff })), /ZIP64/);
  assert.match(await why(zip(many(1), { count: 2 })), /directory is damaged/);
  assert.match(await why(zip([])), /holds no file/);
});

test("what is cut or no archive is said", async () => {
  const whole = zip([{ name: "a.png" }]);
  for (const blob of [new Blob([]), new Blob(["a".repeat(100)]), whole.slice(0, whole.size - 8), whole.slice(20)])
    assert.match(await why(blob), /damaged or cut off/);
});

test("a member that is not what the directory says is refused alone, and never unpacked beyond that", async () => {
  const long = "0".repeat(5e6);
  const inner = { name: "in.zip", text: "PK\u0003\u0004..." };
  const members = [{ name: "bomb.png", text: long, size: 10 }, { name: "crc.png", crc: 1 }, inner];
  const said = await Promise.all((await membersOf(zip(members), limits)).map(opened));
  const [damaged, nested] = ["it is damaged in the archive", "archives in an archive are not unpacked"];
  assert.deepEqual(said, ["it is longer than the archive says", damaged, nested]);
  const [film] = await membersOf(zip([{ name: "a.png", text: "a".repeat(1001) }]), limits);
  assert.equal(await opened(film), "it is longer than the archive says"); // the page refuses it by its size before
  const bad = zip([{ name: "a.png", text: "x", stored: true, method: 8 }]);
  assert.equal(await opened((await membersOf(bad, limits))[0]), "it is damaged in the archive");
});

test("text that is pasted into a field comes there, whatever picture of it Excel adds", () => {
  globalThis.document = { querySelector: () => null };
  const [target, taken] = [new EventTarget(), []];
  const stop = listenToPaste(target, (files) => taken.push(...files));
  const paste = (place, ...types) => {
    const e = new Event("paste", { cancelable: true });
    e.clipboardData = { types, files: [{ name: "a.png" }] };
    Object.defineProperty(e, "target", { value: { matches: (s) => s.startsWith(place) } });
    target.dispatchEvent(e);
    return e.defaultPrevented;
  };
  assert.equal(paste("select", "text/plain", "Files"), false);
  assert.equal(paste("select", "Files"), true);
  assert.equal(paste("main", "text/plain", "Files"), true);
  assert.equal(taken.length, 2);
  stop();
});

test("an archive is told by its name, and a pasted image is named by the time", () => {
  assert.deepEqual(["a.ZIP", "a.zip.png"].map((name) => isZip({ name })), [true, false]);
  const file = (name, type) => new File(["x"], name, { type });
  const now = new Date(2026, 0, 2, 3, 4, 5);
  const files = [file("image.png", "image/png"), file("chest.png", "image/png"), file("a.dcm", "")];
  assert.deepEqual(pasted(files, now).map((f) => f.name), ["pasted-030405.png", "chest.png", "a.dcm"]);
});
