// One film: verdict, reasons, images and the controls of the images.
// Zoom, place, map, opacity and inversion stay as they are when the operating point moves and when another film opens.
import { button, icon, inBrackets, kind, make, probabilityText, words } from "./dom.js";
import { Gestures } from "./gestures.js";
import { FIT, movedBy, placed, zoomedBy } from "./lens.js";
import { FilmWindow } from "./window.js";

const UNDER_MAP =
  "With activation map: yellow supports PNEUMONIA, blue NORMAL. Shows which regions raised the score; " +
  "does not localise disease.";

// Beside probability and map of a film that is out of scope: Python says whether and in which words.
const cautionFor = (s) => (s.caution ? [make("strong", { class: "caution" }, s.caution)] : []);

// The probability on its scale from 0 to 1, with the operating point and the range in which films are UNSURE.
function scaleOf(s) {
  const place = (p) => `${Math.min(100, Math.max(0, 100 * p))}%`;
  const at = (p) => `--at:${place(p)}`;
  const [p, t, [low, high], unsure] = [probabilityText(s.probability), s.threshold.toFixed(3), s.band, unsureOf(s)];
  const range = unsure ? [make("i", { class: "unsure", style: `${at(low)};--to:${place(high)}` })] : [];
  return make(
    "div",
    { class: "scale", role: "img", "aria-label": scaleLabel(s, p, t) },
    make("span", { class: "label", style: at(s.threshold) }, `operating point ${t}`),
    make("div", { class: "bar" }, make("i", { style: at(high) }), ...range),
    make("div", { class: "cut", style: at(s.threshold) }),
    make("div", { class: "point", style: at(s.probability) }),
    make("strong", { class: "label", style: at(s.probability) }, p),
    make("div", { class: "ends" }, ...["0 NORMAL", unsure, "PNEUMONIA 1"].map((end) => make("span", {}, end))),
  );
}

// The range of probabilities in which films are UNSURE, in words; empty without one.
export function unsureOf({ band: [low, high] }) {
  return high > low ? `UNSURE ${low.toFixed(3)} to ${high.toFixed(3)}` : "";
}

const scaleLabel = (s, p, t) =>
  [`Calibrated probability of PNEUMONIA ${p}${inBrackets(s.caution)}`, `operating point ${t}`, unsureOf(s)]
    .filter(Boolean)
    .join("; ");

// What the film's DICOM file says of it: Python chooses and words it.
const factsOf = (facts) =>
  make(
    "dl",
    { class: "dicom", "aria-label": "From the DICOM file" },
    ...facts.flatMap(({ name, value, caution }) => [
      make("dt", {}, name),
      make("dd", caution ? { class: "caution" } : {}, value),
    ]),
  );

// The explanation of a film. A film without a probability has no map either: both would be meaningless.
function explanationOf(s) {
  const v = kind(s.verdict);
  const text = make("div", {}, make("strong", {}, s.verdict), make("span", {}, words(v, s)));
  const parts = [make("h3", { class: "name" }, s.name), make("div", { class: `verdict v-${v}` }, icon(v), text)];
  if (s.probability != null) {
    const about = "Probability of PNEUMONIA at 50\u00a0% prevalence:";
    parts.push(make("p", {}, about, " ", ...cautionFor(s)), scaleOf(s));
  }
  if (s.facts.length) parts.push(factsOf(s.facts));
  if (s.notice) parts.push(make("p", { class: "error" }, make("strong", {}, s.notice)));
  parts.push(make("h3", {}, "Why this verdict"), make("p", { class: "rationale" }, s.rationale));
  parts.push(make("ul", { class: "reasons" }, ...s.reasons.map((r) => make("li", {}, r))));
  if (s.where) {
    const where = `Strongest support for PNEUMONIA: ${s.where} of the image (its left is usually the patient's right).`;
    parts.push(make("p", { class: "where" }, where));
  }
  parts.push(make("p", { class: "soft" }, `Model ${s.bundle.slice(0, 16)}`));
  return parts;
}

// The announcement for screen readers.
export const sentence = (s) =>
  s.probability == null
    ? `${s.name}: ${s.verdict}.`
    : `${s.name}: ${s.verdict}, probability ${probabilityText(s.probability)}${inBrackets(s.caution)}, ` +
      `strongest support for PNEUMONIA ${s.where}.`;

// How the film is shown: alone, under the map, or beside itself with the map.
const MODES = { film: "Film", over: "Map", sides: "Side by side" };
const KEY_OF = { film: "M", over: "M", sides: "S" };

export class Viewer {
  // `fetch` asks the server for a piece of the open film's values, `say` tells what a key did
  constructor(reader, { fetch, say }) {
    Object.assign(this, { reader, id: null, lens: FIT, inverted: false, urls: [], mode: "over", mapped: "over" });
    [this.plain, this.under] = [make("img", { draggable: "false" }), make("img", { alt: "", draggable: "false" })];
    this.over = make("img", { class: "map", draggable: "false" });
    this.window = new FilmWindow({ picture: this.plain, fetch, say });
    const [bareCanvas, mappedCanvas] = this.window.canvases;
    this.stacks = [
      make("div", { class: "stack" }, this.plain, bareCanvas),
      make("div", { class: "stack" }, this.under, mappedCanvas, this.over),
    ];
    this.gestures = new Gestures(this);
    this.frames = [];
    this.map = this.view(this.stacks[1], "Radiograph with activation map", UNDER_MAP, "mapped");
    const bare = this.view(this.stacks[0], "Radiograph", "As decoded", "bare");
    this.views = make("div", { class: "views" }, bare, this.map);
    this.text = make("div", { class: "text", tabindex: "0", role: "region", "aria-label": "Verdict and rationale" });
    const side = make("div", { class: "side" }, this.text, reader.box);
    this.box = make("div", { class: "result" }, this.views, side);
    this.controls = this.layControls();
    this.fade();
    this.look(this.mode);
  }

  view(stack, label, caption, name) {
    const frame = make(
      "div",
      { class: "view", tabindex: "0", role: "region", "aria-label": label },
      make("div", { class: "canvas" }, stack),
      this.window.readouts[this.frames.length],
    );
    this.frames.push(frame);
    this.gestures.listen(frame);
    return make("figure", { class: name }, frame, make("figcaption", {}, caption));
  }

  layControls() {
    this.zoomed = make("output", { "aria-label": "Zoom" }, "100 %");
    this.opacity = make("input", {
      type: "range",
      min: "0",
      max: "100",
      value: "35",
      class: "opacity",
      "aria-label": "Opacity of the map",
      oninput: () => this.fade(),
    });
    this.fader = make("label", { class: "fader" }, "Opacity", this.opacity);
    const inverts = { class: "invert", "aria-pressed": "false", title: "Invert (I)" };
    this.invert = button("Invert", () => this.turn(), inverts);
    const by = (factor) => () => this.zoomBy(factor);
    return make(
      "div",
      { class: "row controls" },
      this.layModes(),
      this.fader,
      make(
        "div",
        { class: "joined" },
        button("−", by(1 / 1.5), { class: "zoom-out", "aria-label": "Zoom out", title: "Zoom out (−)" }),
        this.zoomed,
        button("+", by(1.5), { class: "zoom-in", "aria-label": "Zoom in", title: "Zoom in (+)" }),
        button("Fit", () => this.fit(), { class: "fit", title: "Fit (0, double click)" }),
      ),
      this.window.box,
      this.invert,
    );
  }

  layModes() {
    const one = ([mode, label]) =>
      button(label, () => this.look(mode), { "data-mode": mode, title: `${label} (${KEY_OF[mode]})` });
    this.modes = make("div", { class: "joined modes", role: "group", "aria-label": "Shown" });
    this.modes.append(...Object.entries(MODES).map(one));
    return this.modes;
  }

  fade() {
    this.over.style.opacity = this.opacity.value / 100;
  }

  // Show the film alone, under the map or beside it.
  look(mode) {
    this.mode = mode;
    if (mode !== "film") this.mapped = mode;
    this.views.dataset.mode = mode;
    for (const press of this.modes.children) press.setAttribute("aria-pressed", press.dataset.mode === mode);
    this.place();
  }

  toggleMap() {
    this.look(this.mode === "film" ? this.mapped : "film");
  }

  toggleSides() {
    this.look(this.mode === "sides" ? "over" : "sides");
  }

  // The frame that is seen, of which there may be two of one size; none before a film is open.
  get frame() {
    return this.frames.find((frame) => frame.offsetWidth > 0);
  }

  // The film that fits a frame: its place in the window, pixels.
  fitted(frame) {
    return frame.firstChild.getBoundingClientRect();
  }

  // Zoom at a place of the window, pixels; without one, at the middle of the film.
  zoomAt(factor, x, y, frame = this.frame) {
    if (!frame) return;
    const box = this.fitted(frame);
    const at = { x: (x - box.left) / box.width - 0.5, y: (y - box.top) / box.height - 0.5 };
    this.lens = zoomedBy(this.lens, factor, x === undefined ? { x: 0, y: 0 } : at);
    this.place();
  }

  zoomBy(factor) {
    this.zoomAt(factor);
  }

  // Move the film by pixels.
  moveBy(x, y, frame = this.frame) {
    if (!frame) return;
    const box = this.fitted(frame);
    this.lens = movedBy(this.lens, x / box.width, y / box.height);
    this.place();
  }

  fit() {
    this.lens = FIT;
    this.place();
  }

  place() {
    for (const stack of this.stacks) Object.assign(stack.style, placed(this.lens));
    this.views.classList.toggle("zoomed", this.lens.zoom > 1);
    this.zoomed.textContent = Math.round(100 * this.lens.zoom) + " %";
  }

  turn() {
    this.inverted = !this.inverted;
    this.window.reversed = this.inverted;
    this.invert.setAttribute("aria-pressed", this.inverted);
    for (const picture of [this.plain, this.under, ...this.window.canvases])
      picture.style.filter = this.inverted ? "invert(1)" : "";
  }

  // Show another film: radiograph and, if there is one, map.
  show(shown, buffers) {
    this.release();
    this.id = shown.id;
    this.explain(shown);
    const [picture, map] = buffers.map((b, i) => {
      const url = URL.createObjectURL(new Blob([b], { type: i ? "image/png" : "image/jpeg" }));
      this.urls.push(url);
      return url;
    });
    this.plain.alt = `Radiograph ${shown.name}`;
    this.plain.src = picture;
    this.map.hidden = this.fader.hidden = this.modes.hidden = !map;
    this.views.classList.toggle("alone", !map);
    if (map) {
      this.under.src = picture;
      this.over.src = map;
      this.over.alt = `Activation map over the radiograph, ${shown.where}${inBrackets(shown.caution)}`;
    }
    for (const stack of this.stacks) stack.style.aspectRatio = `${shown.width}/${shown.height}`;
    this.views.style.setProperty("--ratio", shown.width / shown.height);
    this.window.show(shown.depth);
  }

  // Go to the reasons, below verdict and probability.
  focusReasons() {
    this.text.focus();
    const top = (part) => part.getBoundingClientRect().top;
    this.text.scrollTop += top(this.text.querySelector("h3:not(.name)")) - top(this.text) - 8;
  }

  // Update the explanation of the same film.
  explain(shown) {
    this.verdict = shown.verdict;
    this.threshold = shown.threshold;
    this.text.replaceChildren(...explanationOf(shown));
    this.map.lastChild.replaceChildren(...cautionFor(shown), shown.caution ? " " : "", UNDER_MAP);
  }

  // Release the previous images.
  release() {
    this.id = null;
    this.window.release();
    for (const picture of [this.plain, this.under, this.over]) picture.removeAttribute("src");
    for (const url of this.urls.splice(0)) URL.revokeObjectURL(url);
  }
}
