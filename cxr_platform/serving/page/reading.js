// The answer for one image: the decision, where it lies on the scale, the seven probabilities.

import { byId, el, show, vary } from "./dom.js";
import { mark } from "./marks.js";
import { DECISIONS, className, percent, pointOf, sentence } from "./words.js";

const STAGES = { upload: "upload", waiting: "waiting", decode: "decoding", inference: "network",
  explanation: "heatmap", total: "in all" };

/** Say what an answer can be, before there is one; `sensitivity` is what the point was chosen for, once it is known. */
export function showGuide(sensitivity = null) {
  const items = Object.entries(DECISIONS).map(([decision, { title, gist, brief }]) =>
    el("div", { "data-decision": decision }, el("dt", {}, mark(decision), title), el("dd", {}, brief ?? gist(pointOf(sensitivity)))));
  show(byId("guide"), el("h2", { id: "guide-title" }, "What the model can say"), el("dl", { class: "guide" }, items));
}

/** Show the answer for the image `name`. */
export function showReading(name, answer) {
  const section = byId("reading");
  section.dataset.decision = answer.decision;
  show(section,
    el("p", { class: "image-name" }, name),
    el("h2", { id: "decision" }, mark(answer.decision), DECISIONS[answer.decision].title),
    el("p", { class: "gist" }, DECISIONS[answer.decision].gist(pointOf(answer.operating_point.target_sensitivity)),
      anotherClass(answer)),
    ...(answer.probabilities ? figures(answer) : findings(answer)),
    about(answer),
  );
}

/** Said where it may surprise: another class can be likelier than Covid-19 in an image that is called positive. */
function anotherClass(answer) {
  if (answer.decision !== "positive" || answer.label === "Covid19") return null;
  return ` The likeliest class is another, ${className(answer.label)}.`;
}

export function hideReading() {
  byId("reading").hidden = true;
}

function figures(answer) {
  return [scale(answer), bars(answer)];
}

function findings(answer) {
  const items = answer.findings.map((finding) =>
    el("li", {}, sentence(finding.sentence), " ", el("span", { class: "detail" }, finding.detail)));
  return [el("h3", {}, "Why"), el("ul", { class: "findings" }, items),
    el("p", { class: "soft" }, "An answer for such an image could not be trusted, so no probabilities are given.")];
}

/** The Covid-19 probability from 0 to 100 %, with the zone in which nothing is decided. */
function scale(answer) {
  const [low, high] = answer.operating_point.zone;
  const at = answer.covid19_probability;
  const line = el("div", { class: "scale", "aria-hidden": "true" },
    el("span", { class: "zone" }), el("span", { class: "needle" }), el("span", { class: "at" }, percent(at)));
  const ends = el("div", { class: "ends", "aria-hidden": "true" }, el("span", {}, "0 %"), el("span", {}, "100 %"));
  const caption = el("figcaption", {}, el("span", { class: "key-zone" }),
    ` Undecided, ${(100 * low).toFixed(1)} to ${percent(high)}. Negative to the left of it, positive to the right.`);
  return el("figure", { class: "gauge" }, el("h3", {}, `${className("Covid19")} probability`),
    vary(line, { "--at": at, "--low": low, "--high": high }), ends, caption);
}

/** A table whose roles are spelled out because on a phone its rows are laid out as blocks. */
function bars(answer) {
  const rows = Object.entries(answer.probabilities).map(([label, share]) =>
    el("tr", { role: "row", class: label === answer.label ? "most" : null },
      el("th", { role: "rowheader", scope: "row" }, className(label)),
      el("td", { class: "bar", "aria-hidden": "true" }, vary(el("span"), { "--share": share })),
      el("td", { role: "cell", class: "number" }, percent(share))));
  const title = el("caption", {}, "Seven classes. ", el("span", { class: "soft" }, "The probabilities add up to 100\u00a0%."));
  return el("table", { role: "table", class: "bars" }, title, el("tbody", { role: "rowgroup" }, rows));
}

function about(answer) {
  const times = Object.entries(STAGES).filter(([stage]) => answer.timings_ms[stage] !== null)
    .map(([stage, name]) => `${name} ${Math.round(answer.timings_ms[stage])} ms`);
  const facts = { Model: `${answer.model.version}, ${answer.model.strategy}`, Request: answer.request_id,
    "Time in the server": times.join(", ") };
  return el("details", { class: "about" }, el("summary", {}, "About this answer"),
    el("dl", {}, Object.entries(facts).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
}
