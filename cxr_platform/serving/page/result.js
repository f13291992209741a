// The result for one image: decision, position on the scale, class probabilities; or the problem.

import { byId, el, icon, setProperties, show } from "./dom.js";
import { DECISIONS, className, operatingPoint, percent, sentence } from "./format.js";

const STAGES = { upload: "upload", waiting: "waiting", decode: "decoding", inference: "network",
  explanation: "heatmap", total: "total" };

/** Explain the possible decisions, before there is a result; `sensitivity` is the target of the model, once known. */
export function showGuide(sensitivity = null) {
  const items = Object.entries(DECISIONS).map(([decision, { title, text, shortText }]) =>
    el("div", { "data-decision": decision },
      el("dt", {}, icon(decision), title), el("dd", {}, shortText ?? text(operatingPoint(sensitivity)))));
  show(byId("guide"), el("h2", { id: "guide-title" }, "Possible results"), el("dl", { class: "guide" }, items));
}

/** Show the answer for the image `name`. */
export function showResult(name, answer) {
  const section = byId("result");
  section.dataset.decision = answer.decision;
  show(section,
    el("p", { class: "image-name" }, name),
    el("h2", { id: "decision" }, icon(answer.decision), DECISIONS[answer.decision].title),
    el("p", { class: "summary" }, summary(answer), otherClass(answer)),
    ...(answer.probabilities ? [scale(answer), probabilityTable(answer), ...predictionSet(answer)] : findings(answer)),
    details(answer),
  );
}

export function hideResult() {
  byId("result").hidden = true;
}

/** Show a `Problem` with the image `name`; `retry` is called by its button, if the problem is temporary. */
export function showProblem(name, problem, retry) {
  const trace = [problem.status && `Status ${problem.status}`, problem.reason, problem.requestId];
  show(byId("problem"),
    el("p", { class: "image-name" }, name),
    el("h2", { id: "problem-title" }, icon("problem"), "No result"),
    el("p", { class: "summary" }, problem.title),
    problem.detail && el("p", {}, problem.detail),
    problem.temporary && el("button", { type: "button", class: "button", onclick: retry }, "Try again"),
    el("p", { class: "soft trace" }, trace.filter(Boolean).join(" · ")),
  );
}

export function hideProblem() {
  byId("problem").hidden = true;
}

/** Outside the zone a decision is indeterminate only where the heads of a gate disagree. */
function summary(answer) {
  const { target_sensitivity: sensitivity, zone: [low, high] } = answer.operating_point;
  const probability = answer.covid19_probability;
  const outside = probability < low || probability >= high;
  if (answer.decision === "indeterminate" && outside) return "The two heads of the model disagree on Covid\u201119.";
  return DECISIONS[answer.decision].text(operatingPoint(sensitivity));
}

/** An image can be positive although another class is more probable than Covid-19. */
function otherClass(answer) {
  if (answer.decision !== "positive" || answer.label === "Covid19") return null;
  return ` The most probable class is ${className(answer.label)}.`;
}

function findings(answer) {
  const items = answer.findings.map((finding) =>
    el("li", {}, sentence(finding.message), " ", el("span", { class: "detail" }, finding.detail)));
  return [el("h3", {}, "Reason"), el("ul", { class: "findings" }, items),
    el("p", { class: "soft" }, "A result for such an image would not be reliable, so no probabilities are shown.")];
}

/** The Covid-19 probability from 0 to 100 % with the indeterminate zone. */
function scale(answer) {
  const [low, high] = answer.operating_point.zone;
  const at = answer.covid19_probability;
  const line = el("div", { class: "scale", "aria-hidden": "true" },
    el("span", { class: "zone" }), el("span", { class: "needle" }), el("span", { class: "at" }, percent(at)));
  const ends = el("div", { class: "ends", "aria-hidden": "true" }, el("span", {}, "0 %"), el("span", {}, "100 %"));
  const caption = el("figcaption", {}, el("span", { class: "zone-legend" }),
    ` Indeterminate from ${(100 * low).toFixed(1)} to ${percent(high)}, negative below, positive above.`);
  return el("figure", { class: "gauge" }, el("h3", {}, `${className("Covid19")} probability`),
    setProperties(line, { "--at": at, "--low": low, "--high": high }), ends, caption);
}

/** The roles are explicit because the rows become blocks on a phone. */
function probabilityTable(answer) {
  const rows = Object.entries(answer.probabilities).map(([label, share]) =>
    el("tr", { role: "row", class: label === answer.label ? "most" : null },
      el("th", { role: "rowheader", scope: "row" }, className(label)),
      el("td", { class: "bar", "aria-hidden": "true" }, setProperties(el("span"), { "--share": share })),
      el("td", { role: "cell", class: "number" }, percent(share))));
  const title = el("caption", {}, "Class probabilities. ", el("span", { class: "soft" }, "They sum to 100\u00a0%."));
  return el("table", { role: "table", class: "bars" }, title, el("tbody", { role: "rowgroup" }, rows));
}

/** The classes that the image may have, with what that states. */
function predictionSet(answer) {
  const set = answer.prediction_set;
  const classes = (labels) => labels.map(className).join(", ");
  const without = set.not_stated.length ? ` Without a threshold: ${classes(set.not_stated)}.` : "";
  const text = classes(set.labels) || `No class reaches its threshold.${without}`;
  return [el("h3", {}, "Classes it may have"), el("p", { class: "prediction-set" }, text),
    el("p", { class: "soft" }, set.meaning)];
}

function details(answer) {
  const times = Object.entries(STAGES).filter(([stage]) => answer.timings_ms[stage] !== null)
    .map(([stage, name]) => `${name} ${Math.round(answer.timings_ms[stage])} ms`);
  const facts = { Model: `${answer.model.version}, ${answer.model.strategy}`, Request: answer.request_id,
    "Server time": times.join(", ") };
  return el("details", { class: "about" }, el("summary", {}, "Details of this result"),
    el("dl", {}, Object.entries(facts).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
}
