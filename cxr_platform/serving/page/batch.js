// Several images: sent in requests within the server's limits, shown in a table, downloaded as CSV.

import { LIMITS, Problem, TOO_LARGE } from "./api.js";
import { BatchTable, download, toCsv } from "./batch_table.js";
import { byId, scrollIntoView } from "./dom.js";
import { DECISIONS, count } from "./format.js";

const STOPPED = { title: "Stopped before the image was screened." };
const FAILED = { title: "The page failed with an internal error.", detail: "This does not concern the image." };

/** Rows are {file, result, problem}; a row without result and problem is waiting. */
export class Batch {
  #api;
  #onAnswer;
  #announce;
  #rows = [];
  #table;
  #running = null; // AbortController while requests are sent

  /** `onOpen(file)` shows one image, `onAnswer(answer)` gets each answer, `announce(text)` the summary at the end. */
  constructor({ api, onOpen, onAnswer, announce }) {
    this.#api = api;
    this.#onAnswer = onAnswer;
    this.#announce = announce;
    this.#table = new BatchTable({
      onOpen,
      onStop: () => this.#running?.abort(),
      onRetry: () => this.#retry(),
      onClear: () => this.#clear(),
      onCsv: () => download("screening.csv", toCsv(this.#rows)),
    });
  }

  /** Add images to the table and send them. */
  add(files) {
    this.#rows.push(...files.map((file) => ({ file, result: null, problem: null })));
    byId("batch").hidden = false;
    scrollIntoView(byId("batch"), "start");
    this.#send();
  }

  /** Show beside the table why sending pauses. */
  showPause(text) {
    if (this.#running) this.#table.showPause(text);
  }

  async #send() {
    if (this.#running) return; // the running loop sends the new rows too
    this.#running = new AbortController();
    try {
      for (let next = this.#nextRows(); next.length; next = this.#nextRows()) {
        this.#update(true);
        await this.#sendRows(next, this.#running.signal);
      }
    } finally {
      this.#running = null;
      this.#update(false);
      this.#announce(summary(this.#rows));
    }
  }

  /** The next waiting rows that fit into one request. */
  #nextRows() {
    const next = [];
    let bytes = 0;
    for (const row of this.#rows.filter((row) => !row.result && !row.problem)) {
      if (row.file.size > LIMITS.bytes) {
        row.problem = new Problem(TOO_LARGE);
        continue;
      }
      bytes += row.file.size;
      if (next.length === LIMITS.files || bytes > LIMITS.bytes) break;
      next.push(row);
    }
    return next;
  }

  async #sendRows(rows, signal) {
    try {
      const { items } = await this.#api.screenBatch(rows.map((row) => row.file), signal);
      for (const { index, result, problem } of items) {
        rows[index].result = result ?? null;
        rows[index].problem = problem ? new Problem(problem) : null;
        if (result) this.#onAnswer(result);
      }
    } catch (error) {
      if (error instanceof Problem) rows.forEach((row) => (row.problem = error));
      else this.#endWaiting(signal.aborted ? STOPPED : FAILED);
      if (!(error instanceof Problem) && !signal.aborted) throw error; // an error of this page belongs on the console
    }
  }

  #endWaiting(reason) {
    for (const row of this.#rows) row.problem ??= row.result ? null : new Problem(reason);
  }

  #retry() {
    for (const row of this.#rows) if (row.problem?.temporary) row.problem = null;
    this.#send();
  }

  #clear() {
    this.#running?.abort();
    this.#rows = [];
    byId("batch").hidden = true;
    byId("files").focus();
  }

  #update(running) {
    this.#table.show(this.#rows, { running, summary: summary(this.#rows) });
  }
}

/** "24 images: 3 positive, 20 negative, 1 without result." */
function summary(rows) {
  const tally = (test) => rows.filter(test).length;
  const parts = Object.entries(DECISIONS)
    .map(([decision, { title }]) => [tally((row) => row.result?.decision === decision), title.toLowerCase()]);
  parts.push([tally((row) => row.problem), "without result"], [tally((row) => !row.result && !row.problem), "waiting"]);
  const listed = parts.filter(([number]) => number).map(([number, name]) => `${number} ${name}`);
  return `${count(rows.length, "image")}: ${listed.join(", ")}.`;
}
