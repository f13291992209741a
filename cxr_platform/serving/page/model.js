// The model that answers, with its out-of-fold performance.

import { byId, el, show } from "./dom.js";
import { className, count, percent } from "./format.js";

let shownVersion = null;

/** Fetch, show and return the model, unless `version` is shown already. If that fails, nothing is shown. */
export async function showModel(api, version = null) {
  if (version !== null && version === shownVersion) return null;
  const model = await api.model().catch(() => null);
  if (!model) return null;
  shownVersion = model.version;
  showSyntheticWarning(model.synthetic);
  byId("no-better").hidden = model.better_than_majority;
  show(byId("model"),
    el("h2", { id: "model-title" }, `Model ${model.version}`),
    el("p", { class: "soft" }, evaluation(model)),
    model.winner !== model.strategy &&
      el("p", { class: "notice" }, `The strategy with the best result in the study is another: ${model.winner}.`),
    el("dl", { class: "facts" }, facts(model)),
    ...coverage(model.prediction_sets),
  );
  return model;
}

/** Show or hide the warning that the model was trained on phantoms only. */
export function showSyntheticWarning(synthetic) {
  byId("synthetic").hidden = !synthetic;
}

function evaluation(model) {
  const split = model.protocol === "grouped"
    ? "Each image was scored by a network that was trained without images of the same patient."
    : "Images of one patient may be in both training and test set, so the rates are optimistic.";
  return `MobileNetV2, strategy ${model.strategy}, evaluated on ${count(model.images, "image")} in the study \u201c${model.study}\u201d. ` +
    `${split} Ranges are 95\u00a0% confidence intervals.`;
}

function facts(model) {
  const { decisions } = model.operating_point;
  const rows = [
    ["Covid-19 images called positive", null, decisions.true_positive],
    ["Covid-19 images called negative", "false negatives", decisions.false_negative],
    ["Other images called negative", null, decisions.true_negative],
    ["Other images called positive", "false positives", decisions.false_positive],
    ["Indeterminate images", null, decisions.indeterminate],
    ["Accuracy over seven classes", null, model.metrics.accuracy_7_class],
  ];
  return rows.filter(([, , interval]) => interval?.value != null).map(([name, term, interval]) =>
    el("div", {}, el("dt", {}, name, " ", term && el("span", { class: "soft" }, term)),
      el("dd", {}, percent(interval.value / 100), " ", bounds(interval))));
}

/** How often the set of an image contains its class, by class. */
function coverage(sets) {
  const rows = sets.classes.map(({ label, threshold, coverage: interval }) => el("div", {}, el("dt", {}, className(label)),
    threshold === null || interval.value == null ? el("dd", {}, threshold === null ? "not stated" : "not measured")
      : el("dd", {}, percent(interval.value / 100), " ", bounds(interval))));
  return [el("h3", {}, "Coverage of the classes an image may have"),
    el("p", { class: "soft" }, `Images of each class whose set contains it; the aim is ${percent(sets.coverage)}.`),
    el("dl", { class: "facts" }, rows)];
}

/** The 95 % confidence interval. */
function bounds({ low, high }) {
  if (low == null || high == null) return null;
  return el("span", { class: "soft" }, `${low.toFixed(1)} to ${high.toFixed(1)}`);
}
