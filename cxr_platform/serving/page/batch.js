// Many images: sent in requests that the server takes, shown as a table that grows and can be had as CSV.

import { LIMITS, Problem, TOO_LARGE } from "./api.js";
import { download, toCsv } from "./csv.js";
import { byId, reveal } from "./dom.js";
import { BatchTable } from "./table.js";
import { DECISIONS, count } from "./words.js";

const STOPPED = { title: "Stopped before it was answered." };
const FAILED = { title: "The page itself failed.", detail: "This is a defect of it, and says nothing of the image." };

/** Rows are {file, result, problem}; one without result and problem waits for its answer. */
export class Batch {
  #api;
  #onAnswer;
  #announce;
  #rows = [];
  #table;
  #stopped = null;

  /** `onOpen(file)` shows one image, `onAnswer(answer)` is told of each, `announce(text)` of where the batch stands. */
  constructor({ api, onOpen, onAnswer, announce }) {
    this.#api = api;
    this.#onAnswer = onAnswer;
    this.#announce = announce;
    this.#table = new BatchTable({
      onOpen,
      onStop: () => this.#stopped?.abort(),
      onAgain: () => this.#again(),
      onClear: () => this.#clear(),
      onCsv: () => download("screening.csv", toCsv(this.#rows)),
    });
  }

  /** Add images to the table and send them. */
  add(files) {
    this.#rows.push(...files.map((file) => ({ file, result: null, problem: null })));
    byId("batch").hidden = false;
    reveal(byId("batch"), "start");
    this.#send();
  }

  /** Say beside the table why it is not going on, if it is under way. */
  pause(text) {
    if (this.#stopped) this.#table.pause(text);
  }

  async #send() {
    if (this.#stopped) return; // the loop that is running takes the new rows too
    this.#stopped = new AbortController();
    try {
      for (let next = this.#next(); next.length; next = this.#next()) {
        this.#show(true);
        await this.#sendSome(next, this.#stopped.signal);
      }
    } finally {
      this.#stopped = null;
      this.#show(false);
      this.#announce(summary(this.#rows));
    }
  }

  /** The next rows that fit into one request. */
  #next() {
    const some = [];
    let bytes = 0;
    for (const row of this.#rows.filter((row) => !row.result && !row.problem)) {
      if (row.file.size > LIMITS.bytes) {
        row.problem = new Problem(TOO_LARGE);
        continue;
      }
      bytes += row.file.size;
      if (some.length === LIMITS.files || bytes > LIMITS.bytes) break;
      some.push(row);
    }
    return some;
  }

  async #sendSome(rows, signal) {
    try {
      const { items } = await this.#api.screenBatch(rows.map((row) => row.file), signal);
      for (const { index, result, problem } of items) {
        rows[index].result = result ?? null;
        rows[index].problem = problem ? new Problem(problem) : null;
        if (result) this.#onAnswer(result);
      }
    } catch (error) {
      if (error instanceof Problem) rows.forEach((row) => (row.problem = error));
      else this.#giveUp(signal.aborted ? STOPPED : FAILED);
      if (!(error instanceof Problem) && !signal.aborted) throw error; // a defect of ours belongs on the console
    }
  }

  /** Let nothing wait any longer. */
  #giveUp(reason) {
    for (const row of this.#rows) row.problem ??= row.result ? null : new Problem(reason);
  }

  #again() {
    for (const row of this.#rows) if (row.problem?.passing) row.problem = null;
    this.#send();
  }

  #clear() {
    this.#stopped?.abort();
    this.#rows = [];
    byId("batch").hidden = true;
    byId("files").focus();
  }

  #show(running) {
    this.#table.show(this.#rows, { running, summary: summary(this.#rows) });
  }
}

/** "24 images: 3 positive, 20 negative, 1 without an answer." */
function summary(rows) {
  const tally = (test) => rows.filter(test).length;
  const parts = Object.entries(DECISIONS)
    .map(([decision, { title }]) => [tally((row) => row.result?.decision === decision), title.toLowerCase()]);
  parts.push([tally((row) => row.problem), "without an answer"], [tally((row) => !row.result && !row.problem), "waiting"]);
  const said = parts.filter(([number]) => number).map(([number, name]) => `${number} ${name}`);
  return `${count(rows.length, "image")}: ${said.join(", ")}.`;
}
