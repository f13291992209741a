// Which model answers, and how good it was on images that it had not seen.

import { byId, el, show } from "./dom.js";
import { count, percent } from "./words.js";

let shown = null;

/** Fetch, show and return the model, unless `version` is shown already. The page does without where that fails. */
export async function showModel(api, version = null) {
  if (version !== null && version === shown) return null;
  const model = await api.model().catch(() => null);
  if (!model) return null;
  shown = model.version;
  warnOfSynthetic(model.synthetic);
  show(byId("model"),
    el("h2", { id: "model-title" }, `Model ${model.version}`),
    el("p", { class: "soft" }, provenance(model)),
    model.winner !== model.strategy &&
      el("p", { class: "notice" }, `In the study another strategy did better: ${model.winner}.`),
    el("dl", { class: "facts" }, facts(model)),
  );
  return model;
}

/** Say above everything that a model has seen phantoms only. */
export function warnOfSynthetic(synthetic) {
  byId("synthetic").hidden = !synthetic;
}

function provenance(model) {
  const apart = model.protocol === "grouped"
    ? "Each image was answered by a network that had seen neither it nor its patient."
    : "Images of one patient may stand on both sides of a split, which flatters the figures.";
  return `MobileNetV2, strategy ${model.strategy}, judged on ${count(model.images, "image")} of the study ${model.study}. ${apart}`;
}

function facts(model) {
  const decisions = model.operating_point.decisions;
  const rows = [
    ["Covid-19 images called positive", null, decisions.true_positive],
    ["Covid-19 images called negative", "false negatives", decisions.false_negative],
    ["Other images called negative", null, decisions.true_negative],
    ["Other images called positive", "false positives", decisions.false_positive],
    ["Indeterminate images", null, decisions.indeterminate],
    ["Right among seven classes", "accuracy", model.metrics.accuracy_7_class],
  ];
  return rows.filter(([, , figure]) => figure?.value != null).map(([name, term, figure]) =>
    el("div", {}, el("dt", {}, name, " ", term && el("span", { class: "soft" }, term)),
      el("dd", {}, percent(figure.value / 100), " ", interval(figure))));
}

function interval({ low, high }) {
  if (low == null || high == null) return null;
  return el("span", { class: "soft" }, `${low.toFixed(1)} to ${high.toFixed(1)}`);
}
