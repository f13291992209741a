// The ways in: drop, choose, paste, a sample.

import { byId, el } from "./dom.js";
import { filesOf } from "./folders.js";

/** Calls `onFiles` with the files of each drop, choice, paste or sample, at least one. */
export function watchIntake(onFiles) {
  const take = (list) => {
    const files = Array.from(list ?? []);
    if (files.length) onFiles(files);
    return files.length > 0;
  };
  watchChoice(take);
  watchDrops(take);
  document.addEventListener("paste", (event) => {
    if (take(event.clipboardData?.files)) event.preventDefault();
  });
}

function watchChoice(take) {
  const input = byId("files");
  input.addEventListener("change", () => {
    take(input.files);
    input.value = ""; // so that the same file can be chosen again
  });
}

function watchDrops(take) {
  const stage = byId("stage");
  let depth = 0; // dragenter and dragleave fire for every element on the way
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  const mark = () => stage.toggleAttribute("data-over", depth > 0);
  document.addEventListener("dragenter", (event) => {
    if (carriesFiles(event)) depth += 1;
    mark();
  });
  document.addEventListener("dragleave", (event) => {
    if (carriesFiles(event)) depth = Math.max(0, depth - 1);
    mark();
  });
  document.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  document.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault(); // or the browser would leave the page for the file
    depth = 0;
    mark();
    filesOf(event.dataTransfer).then(take);
  });
}

/** Offer the server's drawn images; without any, the page does without. */
export async function offerSamples(onFiles) {
  const response = await fetch("samples").catch(() => null);
  const { samples } = response?.ok ? await response.json() : { samples: [] };
  byId("samples").querySelector("ul").replaceChildren(...samples.map((sample) => el("li", {}, button(sample, onFiles))));
  byId("samples").hidden = samples.length === 0;
}

function button(sample, onFiles) {
  const address = `samples/${sample.file}`;
  const take = async () => {
    const content = await fetch(address).then((response) => response.blob());
    onFiles([new File([content], `Sample: ${sample.title}`, { type: content.type })]);
  };
  const picture = el("img", { src: address, alt: "", width: 64, height: 64, loading: "lazy" });
  return el("button", { type: "button", class: "sample", onclick: take }, picture, el("span", {}, sample.title));
}
