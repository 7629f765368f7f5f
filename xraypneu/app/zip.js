// Films in a ZIP archive, unpacked in the browser one by one while they are uploaded: the server gets ordinary files,
// with its ordinary limits. What is refused here is what the archive reader of `data/04_fetch` refuses.
const TAIL = 65_557; // bytes in which an archive's end must lie
const RATIO = 100; // bytes unpacked for each byte of the archive
const SMALL = 64e6; // bytes unpacked up to which any ratio is allowed
const DEPTH = 40; // folders within folders
const [STORED, DEFLATED] = [0, 8];
const [REGULAR, FOLDER, LINK] = [0o100000, 0o040000, 0o120000];
const JUNK = /(^|\/)(__MACOSX|@eaDir)\/|(^|\/)(\.[^/]*|Thumbs\.db|desktop\.ini)$/i; // what systems keep beside films
const NAME_ENDS = 300; // last characters of a name that are kept: an archive may hold one of 65,535
const MAKERS_437 = [0, 10, 11, 14]; // FAT, NTFS as Windows and Info-ZIP number it, VFAT
const CP437 =
  "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀" +
  "αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0";
const SPOILT = "it is damaged in the archive"; // a member
const BY_HAND = "Unpack it yourself and drop its films here";

// Why an archive, or a member of it, is not unpacked.
export class ZipError extends Error {}

export const isZip = (file) => /\.zip$/i.test(file.name);

const bytesOf = async (blob) => new Uint8Array(await blob.arrayBuffer());
const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

// Where the directory of an archive begins, how long it is, and how many members it has.
async function endOf(file) {
  const from = Math.max(0, file.size - TAIL);
  const tail = await bytesOf(file.slice(from));
  const view = viewOf(tail);
  for (let at = tail.length - 22; at >= 0; at--) {
    const comment = tail.length - at - 22;
    if (view.getUint32(at, true) !== 0x06054b50 || view.getUint16(at + 20, true) !== comment) continue;
    const count = view.getUint16(at + 10, true);
    const [size, start] = [view.getUint32(at + 12, true), view.getUint32(at + 16, true)];
    if (count === 0xffff || size === 0xffffffff || start === 0xffffffff)
      throw new ZipError(`it has a directory of ZIP64, which is for very large archives. ${BY_HAND}`);
    if (start + size > from + at) break;
    return { count, size, start };
  }
  throw new ZipError("it is damaged or cut off. Copy or download it again");
}

const partsOf = (path) => path.split("/").filter((part) => part !== "" && part !== ".");

// What is wrong with the place of a member, or nothing.
export function unsafe(name) {
  const path = name.replaceAll("\\", "/");
  const parts = partsOf(path);
  if (name.includes("\0")) return "has a null character in its name";
  if (path.startsWith("/") || parts.some((part) => /^[A-Za-z]:(?! )/.test(part))) return "has an absolute path";
  if (parts.includes("..")) return "leads out of the folder";
  return parts.length > DEPTH ? `lies more than ${DEPTH} folders deep` : "";
}

function kindOf(attributes, made) {
  const kind = made >> 8 === 3 ? (attributes >>> 16) & 0o170000 : 0; // of Unix
  if (kind === LINK) return "is a link";
  return [0, REGULAR, FOLDER].includes(kind) ? "" : "is a device, pipe or socket";
}

// A name in the code of its maker. Without the flag for UTF-8 it may be UTF-8 all the same, as macOS writes it; else
// programs for DOS and Windows write code page 437, as the standard says, and those for Unix their own.
export function nameOf(coded, flagged, maker) {
  if (flagged) return new TextDecoder("utf-8").decode(coded);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(coded);
  } catch {
    if (!MAKERS_437.includes(maker)) return new TextDecoder("windows-1252").decode(coded);
    return [...coded].map((c) => (c < 128 ? String.fromCharCode(c) : CP437[c - 128])).join("");
  }
}

// One entry of the directory, and where the next begins.
function entryAt(bytes, at) {
  const view = viewOf(bytes);
  if (at + 46 > bytes.length || view.getUint32(at, true) !== 0x02014b50) throw new ZipError("its directory is damaged");
  const [of16, of32] = [(i) => view.getUint16(at + i, true), (i) => view.getUint32(at + i, true)];
  const end = at + 46 + of16(28);
  if (end > bytes.length) throw new ZipError("its directory is damaged");
  const coded = bytes.subarray(at + 46, end);
  const name = nameOf(coded, (of16(8) & 0x800) !== 0, of16(4) >> 8);
  const sizes = { method: of16(10), crc: of32(16), packed: of32(20), size: of32(24), at: of32(42) };
  const wrong = unsafe(name) || kindOf(of32(38), of16(4));
  return { name, encrypted: (of16(8) & 1) === 1, wrong, ...sizes, next: end + of16(30) + of16(32) };
}

function check(entries, size) {
  for (const { name, wrong } of entries) {
    if (wrong) throw new ZipError(`its member ${JSON.stringify(name.slice(0, 80))} ${wrong}. Nothing of it was read`);
  }
  if (entries.some((e) => e.encrypted)) throw new ZipError(`it is encrypted. ${BY_HAND}`);
  if (entries.some((e) => e.method !== STORED && e.method !== DEFLATED))
    throw new ZipError(`it is compressed with a method that is not supported. ${BY_HAND}`);
  const total = entries.reduce((sum, e) => sum + e.size, 0);
  if (total > Math.max(SMALL, RATIO * size))
    throw new ZipError(`it unpacks to more than ${RATIO} times its size, like a decompression bomb. Nothing was read`);
}

// Names of members, without their folders as long as that tells them apart: a folder may be a patient.
export function namesOf(members) {
  const paths = members.map(({ name }) => partsOf(name.replaceAll("\\", "/")));
  const times = new Map();
  for (const parts of paths) times.set(parts.at(-1), (times.get(parts.at(-1)) ?? 0) + 1);
  return paths.map((parts) => (times.get(parts.at(-1)) > 1 ? parts.join(" › ") : parts.at(-1)).slice(-NAME_ENDS));
}

// The films of an archive, each with name, size and `open`, which unpacks it. Throws a `ZipError`.
export async function membersOf(file, { most, maxBytes }) {
  if (!globalThis.DecompressionStream) throw new ZipError(`this browser can't unpack. ${BY_HAND}`);
  const { count, size, start } = await endOf(file);
  const entries = [];
  if (count > 4 * most) throw new ZipError(`it holds ${count} files; a session takes ${most}. Split it`);
  const directory = await bytesOf(file.slice(start, start + size));
  for (let at = 0, i = 0; i < count; i++) {
    entries.push(entryAt(directory, at));
    at = entries.at(-1).next;
  }
  check(entries, file.size);
  const films = entries.filter((e) => !/[\\/]$/.test(e.name) && !JUNK.test(e.name));
  if (films.length > most) throw new ZipError(`it holds ${films.length} films; a session takes ${most}. Split it`);
  if (!films.length) throw new ZipError("it holds no file");
  const names = namesOf(films);
  return films.map((entry, i) => ({
    name: names[i],
    size: entry.size,
    open: () => unpacked(file, entry, maxBytes),
  }));
}

// The bytes of a member; of one that is longer than it says, no more is unpacked than it says.
async function unpacked(file, entry, maxBytes) {
  const head = viewOf(await bytesOf(file.slice(entry.at, entry.at + 30)));
  if (head.byteLength < 30 || head.getUint32(0, true) !== 0x04034b50) throw new ZipError(SPOILT);
  const begin = entry.at + 30 + head.getUint16(26, true) + head.getUint16(28, true);
  let data = file.slice(begin, begin + entry.packed).stream();
  if (entry.method === DEFLATED) data = data.pipeThrough(new DecompressionStream("deflate-raw"));
  const bytes = await taken(data, Math.min(entry.size, maxBytes));
  if (bytes.length !== entry.size || crcOf(bytes) !== entry.crc) throw new ZipError(SPOILT);
  if (viewOf(bytes).byteLength > 4 && viewOf(bytes).getUint32(0, true) === 0x04034b50)
    throw new ZipError("archives in an archive are not unpacked");
  return new Blob([bytes]);
}

async function taken(stream, most) {
  const [pieces, reader] = [[], stream.getReader()];
  let length = 0;
  try {
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      length += piece.value.length;
      if (length > most) throw new ZipError("it is longer than the archive says");
      pieces.push(piece.value);
    }
  } catch (e) {
    reader.cancel().catch(() => {});
    throw e instanceof ZipError ? e : new ZipError(SPOILT);
  }
  return new Uint8Array(await new Blob(pieces).arrayBuffer());
}

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

export function crcOf(bytes) {
  let c = 0xffffffff;
  for (const byte of bytes) c = TABLE[(c ^ byte) & 255] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}
