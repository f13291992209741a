// What went wrong with an image, and what to do.

import { byId, el, show } from "./dom.js";
import { mark } from "./marks.js";

/** Show a `Problem` with the image `name`; `again` is called if the person wants to try again. */
export function showProblem(name, problem, again) {
  show(byId("problem"),
    el("p", { class: "image-name" }, name),
    el("h2", { id: "problem-title" }, mark("problem"), "No answer"),
    el("p", { class: "gist" }, problem.title),
    problem.detail && el("p", {}, problem.detail),
    problem.passing && el("button", { type: "button", class: "button", onclick: again }, "Try again"),
    el("p", { class: "soft trace" }, trace(problem)),
  );
}

export function hideProblem() {
  byId("problem").hidden = true;
}

function trace(problem) {
  const parts = [problem.status && `Status ${problem.status}`, problem.reason, problem.requestId];
  return parts.filter(Boolean).join(" · ");
}
