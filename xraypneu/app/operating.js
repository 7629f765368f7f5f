// The operating point: the slider, the assumed prevalence, and what the two are worth.
import { button, make, percent } from "./dom.js";

function figuresOf(o) {
  if (!o.table.length) {
    return [make("p", { class: "soft" }, "This model does not say what other operating points are worth.")];
  }
  const note =
    `At ${o.threshold.toFixed(3)}, on the model's ${o.on}; 95 % intervals by patient. PPV and NPV where ` +
    `${(100 * o.prevalence).toFixed(0)} of 100 have pneumonia. Another place may deny all of it.`;
  const head = make("tr", {}, ...["figure", "value", "95 % interval"].map((h) => make("th", { scope: "col" }, h)));
  const lines = o.table.map((t) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, t.name, make("span", { class: "words" }, t.words)),
      make("td", {}, percent(t.value)),
      make("td", {}, `${percent(t.low)} to ${percent(t.high)}`),
    ),
  );
  const attributes = { "aria-label": "What this operating point is worth" };
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
      step: "1",
      value: "30",
      id: "xp-prevalence",
      oninput: () => {
        const value = +this.prevalence.value / 100;
        if (this.prevalence.value !== "") asker.ask("figures", { kind: "prevalence", value });
      },
    });
    this.shown = make("output", { for: "xp-threshold" });
    this.reset = button("Back to the default", () => asker.ask("point", { kind: "default" }), { class: "reset" });
    this.figures = make("div", { class: "figures" });
    this.box = this.section();
  }

  section() {
    const ask = "Patients with pneumonia, of 100";
    const point = make("label", { for: "xp-threshold" }, "Probability");
    return make(
      "section",
      { class: "card", "aria-labelledby": "xp-operating" },
      make("h2", { id: "xp-operating" }, "Operating point"),
      make("p", {}, "PNEUMONIA from this probability on. A lower one misses less and alarms more."),
      make("div", { class: "row" }, point, this.slider, this.shown, this.reset),
      make("div", { class: "row" }, make("label", { for: "xp-prevalence" }, ask), this.prevalence),
      this.figures,
    );
  }

  // What the server says; the slider follows only where nothing newer was asked, or it would move under the hand.
  show(o, follow) {
    if (follow) this.slider.value = o.threshold;
    this.shown.textContent = o.threshold.toFixed(3) + (o.is_default ? " (default)" : "");
    this.reset.disabled = o.is_default;
    this.figures.replaceChildren(...figuresOf(o));
  }
}
