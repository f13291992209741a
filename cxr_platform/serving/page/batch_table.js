// The table of several images, and the same as CSV. Its roles are explicit because rows become blocks on a phone.

import { byId, el, icon } from "./dom.js";
import { DECISIONS, className, percent, sentence } from "./format.js";

const COLUMNS = ["Image", "Decision", "Covid-19", "Most probable class", "Remarks"];
const NOTICE = "For research, not for diagnosis.";

export class BatchTable {
  #actions;
  #body = el("tbody", { role: "rowgroup" });
  #summary = el("p", { class: "tally" });
  #pause = el("p", { class: "pause" });
  #progress = el("progress", { "aria-label": "Images screened" });
  #buttons;
  #drawn = new Map(); // row → [content, element]

  constructor(actions) {
    this.#actions = actions;
    const button = (text, onclick, isSecondary) =>
      el("button", { type: "button", class: isSecondary ? "button secondary" : "button", onclick }, text);
    this.#buttons = {
      csv: button("Download CSV", actions.onCsv),
      retry: button("Retry failed images", actions.onRetry, true),
      stop: button("Stop", actions.onStop, true),
      clear: button("Clear", actions.onClear, true),
    };
    const heads = COLUMNS.map((column) => el("th", { role: "columnheader", scope: "col" }, column));
    byId("batch").replaceChildren(
      el("div", { class: "batch-head" },
        el("div", {}, el("h2", { id: "batch-title" }, "Several images"), this.#summary),
        el("div", { class: "actions" }, Object.values(this.#buttons))),
      this.#progress,
      this.#pause,
      el("table", { role: "table", "aria-labelledby": "batch-title" },
        el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, heads)), this.#body),
    );
  }

  /** Show why sending pauses, until the next `show`. */
  showPause(text) {
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
    this.#buttons.retry.hidden = running || !rows.some((row) => row.problem?.temporary);
    this.#buttons.clear.hidden = running;
    const elements = rows.map((row) => this.#element(row));
    this.#drawn = new Map(rows.map((row, i) => [row, [row.result ?? row.problem, elements[i]]]));
    if (elements.some((element) => !element.isConnected) || elements.length !== this.#body.children.length) {
      this.#body.replaceChildren(...elements);
    }
  }

  /** The element of a row; the existing one if its content has not changed. */
  #element(row) {
    const [content, element] = this.#drawn.get(row) ?? [];
    return element && content === (row.result ?? row.problem) ? element : this.#draw(row);
  }

  #draw({ file, result, problem }) {
    const open = el("button", { type: "button", class: "open", onclick: () => this.#actions.onOpen(file) }, file.name);
    const decision = result ? result.decision : problem ? "problem" : null;
    const title = result ? DECISIONS[decision].title : problem ? "No result" : "Waiting";
    return el("tr", { role: "row", "data-decision": decision },
      el("th", { role: "rowheader", scope: "row" }, open),
      cell("decision", decision && icon(decision), title),
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
  return result?.findings.map((finding) => sentence(finding.message)).join(" ") ?? "";
}

/** The rows as CSV (RFC 4180), with the probabilities of all classes. */
export function toCsv(rows) {
  const labels = Object.keys(rows.find((row) => row.result?.probabilities)?.result.probabilities ?? {});
  const head = ["image", "decision", "label", "covid19_probability", ...labels.map((label) => `p_${label}`),
    "reason", "findings", "problem", "model_version", "synthetic_model", "request_id", "notice"];
  const lines = [head, ...rows.map((row) => csvCells(row, labels))];
  return lines.map((line) => line.map(csvText).join(",") + "\r\n").join("");
}

/** Let the browser save a text as a file. */
export function download(name, text) {
  const address = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv;charset=utf-8" }));
  Object.assign(document.createElement("a"), { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

function csvCells({ file, result, problem }, labels) {
  const probabilities = labels.map((label) => result?.probabilities?.[label]);
  const findings = result?.findings.map((finding) => `${finding.code}: ${finding.detail}`).join("; ");
  return [file.name, result?.decision, result?.label, result?.covid19_probability, ...probabilities, result?.reason,
    findings, problem && `${problem.reason || problem.status}: ${problem.title}`, result?.model.version,
    result?.model.synthetic, result?.request_id ?? problem?.requestId, NOTICE];
}

/** A quoted value; an apostrophe keeps spreadsheets from evaluating a text as a formula. */
function csvText(value) {
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  const text = String(value ?? "").replace(/^[=+\-@\t\r]/, "'$&");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
