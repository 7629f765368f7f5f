// The operating point: slider, assumed prevalence, and the verdicts per class that follow from them.
import { button, make, percent } from "./dom.js";

const OUT_OF_RANGE =
  "Prevalence must be a number from 0 to 100 %. PPV and NPV below still use the last valid one. Correct it here.";

const CLASSES = ["NORMAL", "PNEUMONIA"];
// in the order of the columns, so that correct verdicts are on the diagonal
const ROWS = { NORMAL: "predicted NORMAL", PNEUMONIA: "predicted PNEUMONIA", UNSURE: "UNSURE, left to a reader" };

// What the operating point does to the verdicts: a sentence on this point, and one on each way to move it.
export function ruleOf({ band, limits }) {
  const [low, high] = band.map((v) => v.toFixed(3));
  const verdicts = `A film at or above ${high} is PNEUMONIA, one below ${low} NORMAL`;
  if (!limits) return [`${verdicts}.`, "A lower point misses fewer pneumonias but raises more false alarms."];
  const [first, last] = limits.map((v) => v.toFixed(3));
  return [
    `${verdicts}, one between UNSURE.`,
    `A point below ${first} turns NORMAL into UNSURE, never into PNEUMONIA.`,
    `A point above ${last} turns PNEUMONIA into UNSURE, never into NORMAL.`,
    `Films from ${first} to ${last} are UNSURE at any point.`,
  ];
}

export const inOrder = (shares) => Object.keys(ROWS).flatMap((v) => shares.filter((s) => s.verdict === v));

// Which films the percentages are of.
function filmsOf(o) {
  if (o.counts) return "the test films";
  return o.on === "shifted validation" ? "validation films altered to imitate another hospital" : o.on;
}

export function noteOf(o) {
  const chosen = o.counts ? " The default point was chosen on validation films, not on these." : "";
  const refused = o.refused
    ? ` ${percent(o.refused)} of them are OUT OF SCOPE or NOT A CHEST X-RAY at any point; they are counted here ` +
      "by their probability."
    : "";
  return (
    `At ${o.threshold.toFixed(3)}, on ${filmsOf(o)}; 95 % intervals by patient.${chosen}${refused} PPV and NPV at ` +
    `${+(100 * o.prevalence).toPrecision(6)} % prevalence, without the UNSURE films. Expect worse elsewhere: ` +
    "a similar model's AUC fell from .95 to .54."
  );
}

const headOf = (...names) => make("thead", {}, make("tr", {}, ...names.map((h) => make("th", { scope: "col" }, h))));
const whole = (v) => percent(v).replace(" ", "\u00a0"); // not parted on a narrow screen
const interval = (s) => `${whole(s.low)} to ${whole(s.high)}`;

// Of the films of each class, the percentage that gets each verdict.
function sharesOf(o) {
  const films = (c) => `${c} films` + (o.counts ? ` (${o.counts[c]})` : "");
  const cell = (s) => make("td", {}, percent(s.value), make("span", { class: "words" }, interval(s)));
  const lines = inOrder(o.shares).map((s) =>
    make(
      "tr",
      { "data-verdict": s.verdict },
      make("th", { scope: "row" }, ROWS[s.verdict]),
      ...CLASSES.map((c) => cell(s[c])),
    ),
  );
  const attributes = { class: "shares", "aria-label": "Verdicts at this operating point, per class" };
  const caption = make("caption", {}, `Verdicts on ${filmsOf(o)}, percentage of each class with 95 % interval`);
  return make("table", attributes, caption, headOf("verdict", ...CLASSES.map(films)), make("tbody", {}, ...lines));
}

function metricsOf(o) {
  const [verdicts, ...moves] = ruleOf(o);
  const rule = [
    make("p", { class: "rule" }, verdicts),
    make("ul", { class: "rule" }, ...moves.map((move) => make("li", {}, move))),
  ];
  if (!o.shares.length) {
    return [...rule, make("p", { class: "soft" }, "This model has no metrics for other operating points.")];
  }
  const lines = o.table.map((t) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, t.name, make("span", { class: "words" }, t.words)),
      make("td", {}, percent(t.value)),
      make("td", {}, interval(t)),
    ),
  );
  const attributes = { "aria-label": "Predictive values at this operating point" };
  return [
    ...rule,
    sharesOf(o),
    make("table", attributes, headOf("metric", "value", "95 % interval"), make("tbody", {}, ...lines)),
    make("p", { class: "soft" }, noteOf(o)),
  ];
}

export class OperatingPanel {
  constructor(asker, threshold) {
    this.slider = make("input", {
      type: "range",
      min: "0.01",
      max: "0.99",
      step: "0.01",
      value: threshold,
      id: "xp-threshold",
      oninput: () => asker.ask("point", { kind: "threshold", value: +this.slider.value }),
    });
    this.prevalence = make("input", {
      type: "number",
      min: "0",
      max: "100",
      step: "any",
      value: "30",
      id: "xp-prevalence",
      "aria-describedby": "xp-prevalence-error",
      oninput: () => this.assume(asker),
    });
    this.wrong = make("p", { id: "xp-prevalence-error", class: "error", role: "alert" });
    this.shown = make("output", { for: "xp-threshold" });
    this.reset = button("Reset to default", () => asker.ask("point", { kind: "default" }), { class: "reset" });
    this.metrics = make("div", { class: "metrics" });
    this.box = this.section();
  }

  section() {
    const ask = "Assumed prevalence (%)";
    const point = make("label", { for: "xp-threshold" }, "Probability");
    return make(
      "section",
      { class: "card", "aria-labelledby": "xp-operating" },
      make("h2", { id: "xp-operating" }, "Operating point"),
      make("div", { class: "row" }, point, this.slider, this.shown, this.reset),
      make("div", { class: "row" }, make("label", { for: "xp-prevalence" }, ask), this.prevalence),
      this.wrong,
      this.metrics,
    );
  }

  // Ask for the metrics at the prevalence in the field, or say why it can't be used.
  assume(asker) {
    const text = this.prevalence.value; // empty, too, if it is no number
    const good = text !== "" && +text >= 0 && +text <= 100;
    this.prevalence.setAttribute("aria-invalid", !good);
    this.wrong.textContent = good ? "" : OUT_OF_RANGE;
    if (good) asker.ask("metrics", { kind: "prevalence", value: +text / 100 });
  }

  // Show the server's answer. The slider moves only if no newer request is pending, or it would jump while dragged.
  show(o, follow) {
    if (follow) this.slider.value = o.threshold;
    const untouched = !this.metrics.hasChildNodes() && this.prevalence.value === "30";
    if (untouched) this.prevalence.value = +(100 * o.prevalence).toPrecision(6); // as another view has set it
    this.shown.textContent = o.threshold.toFixed(3) + (o.is_default ? " (default)" : "");
    this.reset.disabled = o.is_default;
    this.metrics.replaceChildren(...metricsOf(o));
  }
}
