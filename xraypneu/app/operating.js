// The operating point: slider, assumed prevalence, and the metrics that follow from them.
import { button, make, percent } from "./dom.js";

const OUT_OF_RANGE =
  "Prevalence must be a number from 0 to 100 %. PPV and NPV below still use the last valid one. Correct it here.";

function metricsOf(o) {
  if (!o.table.length) {
    return [make("p", { class: "soft" }, "This model has no metrics for other operating points.")];
  }
  const shifted = "validation films altered to imitate another hospital";
  const films = o.on === "shifted validation" ? shifted : o.on;
  const note =
    `At ${o.threshold.toFixed(3)}, on ${films}; 95 % intervals by patient. PPV and NPV at ` +
    `${+(100 * o.prevalence).toPrecision(6)} % prevalence. Expect worse elsewhere: ` +
    "a similar model's AUC fell from .95 to .54.";
  const head = make("tr", {}, ...["metric", "value", "95 % interval"].map((h) => make("th", { scope: "col" }, h)));
  const lines = o.table.map((t) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, t.name, make("span", { class: "words" }, t.words)),
      make("td", {}, percent(t.value)),
      make("td", {}, `${percent(t.low)} to ${percent(t.high)}`),
    ),
  );
  const attributes = { "aria-label": "Metrics at this operating point" };
  return [
    make("p", { class: "soft" }, note),
    make("table", attributes, make("thead", {}, head), make("tbody", {}, ...lines)),
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
      make("p", {}, "Films at or above this probability are classified as PNEUMONIA. A lower threshold misses fewer " +
        "pneumonias but raises more false alarms."),
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
    this.shown.textContent = o.threshold.toFixed(3) + (o.is_default ? " (default)" : "");
    this.reset.disabled = o.is_default;
    this.metrics.replaceChildren(...metricsOf(o));
  }
}
