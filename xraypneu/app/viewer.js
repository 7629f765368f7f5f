// One film: verdict, reasons, images and the controls of the images.
// Zoom, opacity and inversion stay as they are when the operating point moves and when another film opens.
import { button, icon, kind, make, words } from "./dom.js";

const UNDER_MAP =
  "With activation map: yellow supports PNEUMONIA, blue NORMAL. Shows which regions raised the score; " +
  "does not localise disease.";

// The probability on its scale from 0 to 1, with the operating point.
function scaleOf(s) {
  const left = Math.min(100, Math.max(0, 100 * s.probability));
  const cut = Math.min(100, Math.max(0, 100 * s.threshold));
  const edge = (x) => Math.min(88, Math.max(12, x)) + "%";
  const [p, t] = [s.probability.toFixed(3), s.threshold.toFixed(3)];
  return make(
    "div",
    { class: "scale", role: "img", "aria-label": `Calibrated probability of PNEUMONIA ${p}; operating point ${t}` },
    make("div", { class: "bar" }, make("i", { style: `left:${cut}%` })),
    make("div", { class: "cut", style: `left:${cut}%` }),
    make("span", { class: "label", style: `left:${edge(cut)};top:-1.2rem` }, `operating point ${t}`),
    make("div", { class: "point", style: `left:${left}%` }),
    make("strong", { class: "label", style: `left:${edge(left)};top:2.5rem` }, p),
    make("div", { class: "ends" }, make("span", {}, "0 NORMAL"), make("span", {}, "PNEUMONIA 1")),
  );
}

// The explanation of a film. A film without a probability has no map either: both would be meaningless.
function explanationOf(s) {
  const v = kind(s.verdict);
  const text = make("div", {}, make("strong", {}, s.verdict), make("span", {}, words(v, s)));
  const parts = [make("h3", { class: "name" }, s.name), make("div", { class: `verdict v-${v}` }, icon(v), text)];
  if (s.probability != null) {
    const about = "Probability of PNEUMONIA at 50 % prevalence:";
    parts.push(make("p", {}, about), scaleOf(s));
  }
  if (s.notice) parts.push(make("p", { class: "error" }, make("strong", {}, s.notice)));
  parts.push(make("h3", {}, "Why this verdict"), make("p", { class: "rationale" }, s.rationale));
  parts.push(make("ul", { class: "reasons" }, ...s.reasons.map((r) => make("li", {}, r))));
  if (s.where) {
    const where = `Strongest support: ${s.where} of the image (its left is usually the patient's right).`;
    parts.push(make("p", { class: "where" }, where));
  }
  parts.push(make("p", { class: "soft" }, `Model ${s.bundle.slice(0, 16)}`));
  return parts;
}

// The announcement for screen readers.
export const sentence = (s) =>
  s.probability == null
    ? `${s.name}: ${s.verdict}.`
    : `${s.name}: ${s.verdict}, probability ${s.probability.toFixed(3)}, strongest support ${s.where}.`;

export class Viewer {
  constructor() {
    Object.assign(this, { id: null, zoom: 1, inverted: false, urls: [] });
    [this.plain, this.under] = [make("img", {}), make("img", { alt: "" })];
    this.over = make("img", { class: "map" });
    this.stacks = [
      make("div", { class: "stack" }, this.plain),
      make("div", { class: "stack" }, this.under, this.over),
    ];
    this.text = make("div", {});
    this.mapped = this.view(this.stacks[1], "Radiograph with activation map", UNDER_MAP);
    const bare = this.view(this.stacks[0], "Radiograph", "As decoded");
    this.views = make("div", { class: "views" }, bare, this.mapped);
    this.box = make("div", { class: "result" }, this.text, make("div", {}, this.controls(), this.views));
    this.fade();
  }

  view(stack, label, caption) {
    const window = make("div", { class: "view", tabindex: "0", role: "region", "aria-label": label }, stack);
    return make("figure", {}, window, make("figcaption", {}, caption));
  }

  controls() {
    this.zoomed = make("output", { "aria-label": "Zoom" }, "100 %");
    this.opacity = make("input", {
      type: "range",
      min: "0",
      max: "100",
      value: "50",
      class: "opacity",
      "aria-label": "Opacity of the map",
      oninput: () => this.fade(),
    });
    this.fader = make("label", {}, "Map", this.opacity);
    this.invert = button("Invert", () => this.turn(), { class: "invert", "aria-pressed": "false" });
    const by = (factor) => () => this.zoomTo(this.zoom * factor);
    return make(
      "div",
      { class: "row" },
      this.fader,
      button("−", by(1 / 1.5), { class: "zoom-out", "aria-label": "Zoom out" }),
      this.zoomed,
      button("+", by(1.5), { class: "zoom-in", "aria-label": "Zoom in" }),
      button("Fit", () => this.zoomTo(1)),
      this.invert,
    );
  }

  fade() {
    this.over.style.opacity = this.opacity.value / 100;
  }

  zoomTo(zoom) {
    this.zoom = Math.min(6, Math.max(1, zoom));
    for (const stack of this.stacks) stack.style.width = 100 * this.zoom + "%";
    this.zoomed.textContent = Math.round(100 * this.zoom) + " %";
  }

  turn() {
    this.inverted = !this.inverted;
    this.invert.setAttribute("aria-pressed", this.inverted);
    for (const picture of [this.plain, this.under]) picture.style.filter = this.inverted ? "invert(1)" : "";
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
    this.mapped.hidden = this.fader.hidden = !map;
    this.views.classList.toggle("alone", !map);
    if (map) {
      this.under.src = picture;
      this.over.src = map;
      this.over.alt = `Activation map over the radiograph, ${shown.where}`;
    }
    for (const stack of this.stacks) stack.style.aspectRatio = `${shown.width}/${shown.height}`;
  }

  // Update the explanation of the same film.
  explain(shown) {
    this.verdict = shown.verdict;
    this.threshold = shown.threshold;
    this.text.replaceChildren(...explanationOf(shown));
  }

  // Release the previous images.
  release() {
    this.id = null;
    for (const picture of [this.plain, this.under, this.over]) picture.removeAttribute("src");
    for (const url of this.urls.splice(0)) URL.revokeObjectURL(url);
  }
}
