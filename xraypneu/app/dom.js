// Creates elements; texts of the verdicts; icons. File names are only ever set as text.
const ICONS = {
  NORMAL:
    '<circle cx="24" cy="24" r="20" fill="none" stroke="currentColor" stroke-width="4"/>' +
    '<path d="M14 25l7 7 13-15" fill="none" stroke="currentColor" stroke-width="5"/>',
  PNEUMONIA:
    '<path d="M24 4l21 38H3z" fill="none" stroke="currentColor" stroke-width="4"/>' +
    '<path d="M24 17v13M24 34v4" stroke="currentColor" stroke-width="5"/>',
  UNSURE:
    '<circle cx="24" cy="24" r="20" fill="none" stroke="currentColor" stroke-width="4" stroke-dasharray="6 4"/>' +
    '<path d="M17 19a7 7 0 1 1 10 6c-2 1-3 3-3 5M24 34v4" fill="none" stroke="currentColor" stroke-width="4.5"/>',
  OUT_OF_SCOPE:
    '<circle cx="24" cy="24" r="13" fill="none" stroke="currentColor" stroke-width="4"/>' +
    '<path d="M24 2v14M24 32v14M2 24h14M32 24h14" stroke="currentColor" stroke-width="4"/>',
  NOT_RADIOGRAPH:
    '<rect x="5" y="9" width="38" height="30" fill="none" stroke="currentColor" stroke-width="4"/>' +
    '<path d="M9 41L39 7" stroke="currentColor" stroke-width="5"/>',
  FULL:
    '<path d="M6 17V6h11M31 6h11v11M42 31v11H31M17 42H6V31" fill="none" stroke="currentColor" stroke-width="5"/>',
};

const looksCertain = (p, digits) => [0, 1].includes(Number(p.toFixed(digits)));

// A probability as people read it: like `probability_text` of Python, it never looks certain.
export function probabilityText(p, digits = 3) {
  if (!looksCertain(p, digits)) return p.toFixed(digits);
  if (digits < 3) return probabilityText(p);
  const least = 10 ** -digits;
  return p < 0.5 ? `< ${least.toFixed(digits)}` : `> ${(1 - least).toFixed(digits)}`;
}

// "Probability 0.86, above the operating point of 0.31"; with as many decimals as it takes to see which one is larger
export function besides(p, t) {
  const differ = (n) => p.toFixed(n) !== t.toFixed(n) && !looksCertain(t, n);
  const digits = [2, 3, 4, 5, 6].find(differ) ?? 2;
  const side = p > t ? "above" : p < t ? "below" : "at";
  return `Probability ${probabilityText(p, digits)}, ${side} the operating point of ${t.toFixed(digits)}`;
}

export function words(v, s) {
  if (v === "NOT_RADIOGRAPH") {
    const causes = "Photographs, pages, slices, rotated or inverted films commonly cause this.";
    return `The model gives no answer for this image. ${causes}`;
  }
  if (v === "OUT_OF_SCOPE") {
    return "Films of adults, of other machines or of low resolution commonly cause this."; // the rationale says the rest
  }
  if (v === "UNSURE") return "The model abstains: a reader should decide.";
  return besides(s.probability, s.threshold);
}

// Name of a verdict in classes and icons.
const KINDS = { "OUT OF SCOPE": "OUT_OF_SCOPE", "NOT A CHEST X-RAY": "NOT_RADIOGRAPH" };
export const kind = (verdict) => KINDS[verdict] ?? verdict;
// Beside the probability of a film that is out of scope, wherever it stands.
export const CAUTION = "out of scope: accuracy unknown";
// A caution behind a number, in sentences.
export const inBrackets = (caution) => (caution ? ` (${caution})` : "");
export const cautionOf = (verdict) => (kind(verdict) === "OUT_OF_SCOPE" ? CAUTION : "");
export const percent = (v) => (v == null ? "–" : (100 * v).toFixed(1) + " %");
export const size = (n) => (n < 1e6 ? Math.max(1, Math.round(n / 1e3)) + " kB" : (n / 1e6).toFixed(1) + " MB");

// like Python's `printable`: no control or direction characters, limited length
export const clean = (name) => {
  const shown = name.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "\ufffd");
  return shown.length > 120 ? shown.slice(0, 80) + "…" + shown.slice(-39) : shown;
};

export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) {
    if (v === false || v == null) continue;
    if (k.startsWith("on")) node.addEventListener(k.slice(2), v);
    else node.setAttribute(k, v === true ? "" : v);
  }
  node.append(...children);
  return node;
}

// Set the text of an element that holds nothing else, in its own text node: a new one is styled and laid out anew.
export function write(node, text) {
  const { firstChild } = node;
  if (!firstChild) node.append(text);
  else if (firstChild.data !== text) firstChild.data = text;
}

export const button = (text, onclick, attributes = {}) =>
  make("button", { type: "button", onclick, ...attributes }, text);

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 48 48");
  svg.setAttribute("aria-hidden", "true");
  svg.innerHTML = ICONS[name]; // one of the constants above
  return svg;
}

export const notice = () =>
  make(
    "p",
    { class: "notice", role: "note" },
    "Not a medical device. For research and teaching; not for decisions about patients.",
  );
