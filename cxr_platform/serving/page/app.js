// The page: images come in, answers go up.

import { Api, Problem } from "./api.js";
import { Batch } from "./batch.js";
import { byId, reveal } from "./dom.js";
import { offerSamples, watchIntake } from "./intake.js";
import { askForKey } from "./key.js";
import { showModel, warnOfSynthetic } from "./model.js";
import { hideProblem, showProblem } from "./problem.js";
import { hideReading, showGuide, showReading } from "./reading.js";
import { Viewer } from "./viewer.js";
import { count, spoken } from "./words.js";

const viewer = new Viewer();
const api = new Api({
  askForKey: (refused) => {
    sayUnseen(refused ? "The server does not know this key." : "The server asks for an API key.");
    return askForKey(refused);
  },
  onPause: (seconds, problem) => {
    const text = `${problem.title} Trying again in ${count(seconds, "second")}.`;
    say(text);
    batch.pause(text);
  },
});
const batch = new Batch({ api, onOpen: screen, onAnswer: known, announce: sayUnseen });
let current = null; // the image that is being asked about

function take(files) {
  if (files.length === 1) screen(files[0]);
  else batch.add(files);
}

async function screen(file) {
  current?.abort();
  const mine = (current = new AbortController());
  hideProblem();
  hideReading();
  byId("guide").hidden = true;
  say(`Asking about ${file.name} …`);
  viewer.wait(true);
  reveal(byId("stage"));
  try {
    const [answer] = await Promise.all([api.screen(file, mine.signal), viewer.hang(file)]);
    if (mine.signal.aborted) return;
    showReading(file.name, answer);
    known(answer);
    await viewer.explain(answer.explanation);
    sayUnseen(spoken(file.name, answer));
  } catch (error) {
    if (mine.signal.aborted) return;
    if (!(error instanceof Problem)) throw error;
    viewer.explain(null);
    showProblem(file.name, error, () => screen(file));
    sayUnseen(`${file.name}: no answer. ${error.title} ${error.detail}`);
  } finally {
    if (mine === current) viewer.wait(false);
  }
}

/** What an answer tells of the model behind it. */
function known(answer) {
  warnOfSynthetic(answer.model.synthetic);
  showModel(api, answer.model.version);
}

/** Say where things stand, to eyes and ears. */
function say(text) {
  byId("status").textContent = text;
  byId("heard").textContent = text;
}

/** Say what the page shows elsewhere, to ears only. */
function sayUnseen(text) {
  byId("status").textContent = "";
  byId("heard").textContent = text;
}

showGuide();
watchIntake(take);
offerSamples(take);
showModel(api).then((model) => {
  if (model && !byId("guide").hidden) showGuide(model.operating_point.target_sensitivity);
});
