// The page by keyboard: which key does what, and where keys belong to something else.
const PRESSED = {
  j: "next",
  k: "previous",
  m: "map",
  s: "sides",
  i: "invert",
  f: "full",
  t: "theme",
  1: "normal",
  2: "ill",
  3: "unsure",
  c: "comment",
  "+": "larger",
  "=": "larger", // the same key without Shift
  "-": "smaller",
  0: "fit",
  w: "window",
  n: "narrower",
  b: "wider",
  d: "darker",
  l: "lighter",
  r: "reset",
  p: "report",
  v: "filter",
  x: "csv",
  y: "why",
  delete: "remove",
  "?": "help",
};
const ARROWS = { ArrowRight: "next", ArrowLeft: "previous" };
const LIST = { ArrowDown: "next", ArrowUp: "previous" };
const PAN = { ArrowRight: "right", ArrowLeft: "left", ArrowDown: "down", ArrowUp: "up" };
const HELD = [
  "next", "previous", "larger", "smaller", "right", "left", "down", "up", "narrower", "wider", "darker", "lighter",
]; // go on while a key is held
const TYPED = "select, textarea, [contenteditable], input:not([type=range], [type=checkbox], [type=button])";

// For the help: keys, and what they do.
export const KEYS = [
  ["J", "→", "Next film"],
  ["K", "←", "Previous film"],
  ["M", "", "Activation map on or off"],
  ["S", "", "Film and map side by side"],
  ["I", "", "Invert"],
  ["+", "−", "Zoom in, zoom out; also the wheel, at the pointer"],
  ["0", "", "Fit; also a double click"],
  ["Shift + arrows", "", "Move a zoomed film; also by dragging it"],
  ["N", "B", "Window narrower, broader; also by dragging sideways with the right button, or with Shift"],
  ["D", "L", "Darker, lighter (level); also by dragging up and down in the same way"],
  ["W", "", "Window by dragging with the left button or a finger, which otherwise move the film"],
  ["R", "", "Reset the window. It is display only: the verdict does not change"],
  ["1 – 3", "", "Your verdict: 1 NORMAL, 2 PNEUMONIA, 3 UNSURE; the same key again takes it back"],
  ["C", "", "Your comment; Enter or Escape leaves it"],
  ["Y", "", "Why this verdict: to the reasons, which then scroll by arrow"],
  ["V", "", "Show one verdict only, the next at each press, then all again"],
  ["X", "", "CSV of the films that are shown"],
  ["P", "", "Report of this film, one sheet to print or to save as PDF"],
  ["Del", "", "Delete this film; asks first if your reading of it is not saved"],
  ["F", "", "Full screen; Escape leaves it"],
  ["T", "", "Theme: system, dark, light"],
  ["?", "", "This help"],
];

// What the focused element does with keys itself.
export function placeOf(target) {
  if (!target || !target.matches) return "page";
  if (target.matches(TYPED)) return "typed";
  if (target.matches("[type=range]")) return "slider";
  if (target.matches("[role=listbox]")) return "list";
  return target.matches(".scroll, .about") ? "scrolled" : "page"; // wide tables move sideways by arrow
}

// The action of a key, or undefined. `letters`: whether keys without Ctrl, Alt or Shift are wanted, beside the arrows.
export function actionOf(e, place, letters) {
  if (e.ctrlKey || e.metaKey || e.altKey || e.isComposing || place === "typed") return undefined;
  const arrows = place !== "slider" && place !== "scrolled";
  let action = letters ? PRESSED[e.key.toLowerCase()] : undefined;
  if (arrows && e.shiftKey) action ??= PAN[e.key];
  else if (arrows) action ??= ARROWS[e.key] || (place === "list" ? LIST[e.key] : undefined);
  return e.repeat && !HELD.includes(action) ? undefined : action;
}

// Call `act` with the action of each key that is pressed. Returns how to stop.
export function listenToKeys(target, letters, act) {
  const press = (e) => {
    if (e.defaultPrevented || document.querySelector("dialog[open]")) return;
    const action = actionOf(e, placeOf(e.target), letters());
    if (action && act(action)) e.preventDefault();
  };
  target.addEventListener("keydown", press);
  return () => target.removeEventListener("keydown", press);
}
