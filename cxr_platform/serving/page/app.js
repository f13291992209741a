// Connects the parts of the page: files come in, answers are shown. Also the form for the API key.

import { Api, Problem } from "./api.js";
import { Batch } from "./batch.js";
import { byId, scrollIntoView } from "./dom.js";
import { addSamples, watchFileInput } from "./file_input.js";
import { count, spokenAnswer } from "./format.js";
import { showModel, showSyntheticWarning } from "./model.js";
import { hideProblem, hideResult, showGuide, showProblem, showResult } from "./result.js";
import { Viewer } from "./viewer.js";

const viewer = new Viewer();
const api = new Api({
  askForKey: (rejected) => {
    announce(rejected ? "The API key is invalid." : "The server needs an API key.");
    return askForKey(rejected);
  },
  onPause: (seconds, problem) => {
    const text = `${problem.title} Retrying in ${count(seconds, "second")}.`;
    showStatus(text);
    batch.showPause(text);
  },
});
const batch = new Batch({ api, onOpen: screen, onAnswer: useModelOf, announce });
let current = null; // AbortController of the image that is being screened

function addFiles(files) {
  if (files.length === 1) screen(files[0]);
  else batch.add(files);
}

async function screen(file) {
  current?.abort();
  const own = (current = new AbortController());
  hideProblem();
  hideResult();
  byId("guide").hidden = true;
  showStatus(`Screening ${file.name} …`);
  viewer.setWaiting(true);
  scrollIntoView(byId("stage"));
  try {
    const [answer] = await Promise.all([api.screen(file, own.signal), viewer.showFile(file)]);
    if (own.signal.aborted) return;
    showResult(file.name, answer);
    useModelOf(answer);
    await viewer.showExplanation(answer.explanation);
    announce(spokenAnswer(file.name, answer));
  } catch (error) {
    if (own.signal.aborted) return;
    if (!(error instanceof Problem)) throw error;
    viewer.showExplanation(null);
    showProblem(file.name, error, () => screen(file));
    announce(`${file.name}: no result. ${error.title} ${error.detail}`);
  } finally {
    if (own === current) viewer.setWaiting(false);
  }
}

/** Show the model that gave an answer. */
function useModelOf(answer) {
  showSyntheticWarning(answer.model.synthetic);
  showModel(api, answer.model.version);
}

/** Show a status text and announce it to screen readers. */
function showStatus(text) {
  byId("status").textContent = text;
  byId("announcement").textContent = text;
}

/** Announce to screen readers what the page shows elsewhere, and clear the status. */
function announce(text) {
  byId("status").textContent = "";
  byId("announcement").textContent = text;
}

/** Show the form for the API key; return a promise of the key, which `Api` keeps in memory only. */
function askForKey(rejected) {
  const form = byId("key");
  const field = byId("key-value");
  form.hidden = false;
  byId("key-text").textContent = rejected
    ? "The server rejected this key. Check it and try again."
    : "The key stays in the memory of this page and is not stored.";
  field.setAttribute("aria-invalid", String(rejected));
  field.focus({ preventScroll: true });
  scrollIntoView(form);
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      const key = field.value.trim();
      if (!key) return;
      field.value = "";
      form.hidden = true;
      resolve(key);
    };
  });
}

showGuide();
watchFileInput(addFiles);
addSamples(addFiles);
showModel(api).then((model) => {
  if (model && !byId("guide").hidden) showGuide(model.operating_point.target_sensitivity);
});
