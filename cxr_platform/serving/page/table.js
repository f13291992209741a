// The table of many images. Its roles are spelled out because on a phone the rows are laid out as blocks.

import { byId, el } from "./dom.js";
import { mark } from "./marks.js";
import { DECISIONS, className, percent, sentence } from "./words.js";

const HEADS = ["Image", "Decision", "Covid-19", "Most probable", "Remarks"];

export class BatchTable {
  #actions;
  #body = el("tbody", { role: "rowgroup" });
  #summary = el("p", { class: "tally" });
  #pause = el("p", { class: "pause" });
  #progress = el("progress", { "aria-label": "Images answered" });
  #buttons;
  #drawn = new Map(); // row → [what is shown, its element]

  constructor(actions) {
    this.#actions = actions;
    const button = (text, act, quiet) =>
      el("button", { type: "button", class: quiet ? "button quiet" : "button", onclick: act }, text);
    this.#buttons = {
      csv: button("Download CSV", actions.onCsv),
      again: button("Send again what failed", actions.onAgain, true),
      stop: button("Stop", actions.onStop, true),
      clear: button("Clear", actions.onClear, true),
    };
    const heads = el("tr", { role: "row" }, HEADS.map((head) => el("th", { role: "columnheader", scope: "col" }, head)));
    byId("batch").replaceChildren(
      el("div", { class: "batch-head" },
        el("div", {}, el("h2", { id: "batch-title" }, "Several images"), this.#summary),
        el("div", { class: "actions" }, Object.values(this.#buttons))),
      this.#progress,
      this.#pause,
      el("table", { role: "table", "aria-labelledby": "batch-title" },
        el("thead", { role: "rowgroup" }, heads), this.#body),
    );
  }

  /** Say why it is not going on; forgotten with the next `show`. */
  pause(text) {
    this.#pause.textContent = text;
  }

  show(rows, { running, summary }) {
    this.#pause.textContent = "";
    this.#summary.textContent = summary;
    this.#progress.hidden = !running;
    this.#progress.max = Math.max(rows.length, 1);
    this.#progress.value = rows.filter((row) => row.result || row.problem).length;
    this.#buttons.csv.disabled = running;
    this.#buttons.stop.hidden = !running;
    this.#buttons.again.hidden = running || !rows.some((row) => row.problem?.passing);
    this.#buttons.clear.hidden = running;
    const elements = rows.map((row) => this.#element(row));
    this.#drawn = new Map(rows.map((row, i) => [row, [row.result ?? row.problem, elements[i]]]));
    if (elements.some((element) => !element.isConnected) || elements.length !== this.#body.children.length) {
      this.#body.replaceChildren(...elements);
    }
  }

  /** The element of a row, the one that is there if it still says the same. */
  #element(row) {
    const [content, element] = this.#drawn.get(row) ?? [];
    return element && content === (row.result ?? row.problem) ? element : this.#draw(row);
  }

  #draw({ file, result, problem }) {
    const open = el("button", { type: "button", class: "open", onclick: () => this.#actions.onOpen(file) }, file.name);
    const decision = result ? result.decision : problem ? "problem" : null;
    const name = result ? DECISIONS[decision].title : problem ? "No answer" : "Waiting";
    return el("tr", { role: "row", "data-decision": decision },
      el("th", { role: "rowheader", scope: "row" }, open),
      cell("decision", decision && mark(decision), name),
      cell("number", result?.probabilities ? percent(result.covid19_probability) : "–"),
      cell("most", result?.label ? `${className(result.label)} ${percent(result.probabilities[result.label])}` : "–"),
      cell("remarks", remarks(result, problem)));
  }
}

function cell(kind, ...content) {
  return el("td", { role: "cell", class: kind }, ...content);
}

function remarks(result, problem) {
  if (problem) return [problem.title, problem.detail].filter(Boolean).join(" ");
  return result?.findings.map((finding) => sentence(finding.sentence)).join(" ") ?? "";
}
