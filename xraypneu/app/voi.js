// Window and level, without elements: which grey a value of the file gets, as `_window` of data/00_image says.
const LEVELS = 65_536; // of 16 bits; 0 is no part of the picture
const STEADY = 200; // pixels of a drag that make the window e times as wide, or move it by two thirds of its width

// A picture of 8 bits: its values are its grey levels.
export const EIGHT = { low: 0, step: 1, inverted: false, bits: 8, center: 127.5, width: 255, function: "LINEAR_EXACT" };

export const startOf = ({ center, width, function: curve }) => ({ center, width, curve });

// The grey of a value, 0 to 255. Below it is black and above it white, unless the file says the opposite.
export function greyOf(value, { center, width, curve }) {
  if (curve === "SIGMOID") return 255 / (1 + Math.exp((-4 * (value - center)) / width));
  const [c, w] = curve === "LINEAR" ? [center - 0.5, width - 1] : [center, width];
  return 255 * Math.min(1, Math.max(0, (value - c) / Math.max(w, 1e-12) + 0.5));
}

// The grey of each stored level.
export function tableOf({ low, step, inverted }, voi) {
  const table = new Uint8ClampedArray(LEVELS);
  for (let level = 1; level < LEVELS; level++) {
    const grey = greyOf(low + step * (level - 1), voi);
    table[level] = inverted ? 255 - grey : grey;
  }
  return table;
}

// The lowest and the highest value of a picture, from its levels.
export function spanOf({ low, step }, levels) {
  let [least, most] = [LEVELS, 1];
  for (const level of levels) {
    if (level && level < least) least = level;
    if (level > most) most = level;
  }
  return { step, low: low + step * (Math.min(least, most) - 1), high: low + step * (most - 1) };
}

// A window that shows something: at least two steps and at most twice the picture wide, its middle in the picture.
export function sensible({ center, width, curve }, { low, high, step }) {
  const narrowest = 2 * step + (curve === "LINEAR" ? 1 : 0);
  return {
    curve,
    center: Math.min(high, Math.max(low, center)),
    width: Math.min(Math.max(narrowest, 2 * (high - low)), Math.max(narrowest, width)),
  };
}

export const widened = (voi, factor) => ({ ...voi, width: voi.width * factor });
export const shifted = (voi, by) => ({ ...voi, center: voi.center + by * voi.width }); // by widths

// A drag by pixels: to the right it widens the window; downwards the picture gets darker, as the window moves up.
export const dragged = (voi, x, y) => shifted(widened(voi, Math.exp(x / STEADY)), (2 * y) / (3 * STEADY));

// The levels of what the server packed: differences along each row, all low bytes before all high bytes.
export function levelsOf(bytes, across) {
  const n = bytes.length / 2;
  const levels = new Uint16Array(n);
  for (let i = 0; i < n; i++) levels[i] = (i % across ? levels[i - 1] : 0) + bytes[i] + 256 * bytes[n + i]; // wraps
  return levels;
}

const written = (v, step) => (step >= 1 || Math.abs(v) >= 1000 ? String(Math.round(v)) : v.toPrecision(3));

// "W 400 L 1200"; a file that lost its depth on the server says of how many bits it is: "8 of 12 bits"
export function readoutOf({ center, width }, { step, bits }, stored = bits) {
  const depth = bits === stored ? `${bits} bits` : `${bits} of ${stored} bits`;
  return `W ${written(width, step)} L ${written(center, step)} · ${depth}`;
}

// The same for screen readers.
export const spokenOf = ({ center, width }, { step }) =>
  `Window width ${written(width, step)}, level ${written(center, step)}`;
