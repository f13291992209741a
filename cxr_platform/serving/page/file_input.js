// Where images come from: drag and drop, the file dialog, the clipboard, the server's samples.

import { byId, el } from "./dom.js";

/** Call `onFiles` with the files of each drop, selection or paste, at least one. */
export function watchFileInput(onFiles) {
  const take = (list) => {
    const files = Array.from(list ?? []);
    if (files.length) onFiles(files);
    return files.length > 0;
  };
  watchDialog(take);
  watchDrops(take);
  document.addEventListener("paste", (event) => {
    if (take(event.clipboardData?.files)) event.preventDefault();
  });
}

function watchDialog(take) {
  const input = byId("files");
  input.addEventListener("change", () => {
    take(input.files);
    input.value = ""; // the same file can be selected again
  });
}

function watchDrops(take) {
  const stage = byId("stage");
  let depth = 0; // dragenter and dragleave fire for every element on the way
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  const update = () => stage.toggleAttribute("data-over", depth > 0);
  document.addEventListener("dragenter", (event) => {
    if (hasFiles(event)) depth += 1;
    update();
  });
  document.addEventListener("dragleave", (event) => {
    if (hasFiles(event)) depth = Math.max(0, depth - 1);
    update();
  });
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault(); // otherwise the browser would open the file in place of the page
    depth = 0;
    update();
    droppedFiles(event.dataTransfer).then(take);
  });
}

/** A promise of the dropped files and those in dropped folders. Call it during the event: the data is gone later. */
async function droppedFiles(transfer) {
  const entries = Array.from(transfer.items, (item) => item.webkitGetAsEntry?.());
  if (!entries.some((entry) => entry?.isDirectory)) return Array.from(transfer.files);
  return (await Promise.all(entries.filter(Boolean).map(filesOf))).flat();
}

async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  return (await Promise.all((await entriesOf(entry)).map(filesOf))).flat();
}

/** The entries of a folder; a reader returns about a hundred at a time. */
async function entriesOf(folder) {
  const reader = folder.createReader();
  const entries = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return entries.sort((a, b) => a.name.localeCompare(b.name));
    entries.push(...some);
  }
}

/** Show the server's sample images, if it has any. */
export async function addSamples(onFiles) {
  const response = await fetch("samples").catch(() => null);
  const { samples } = response?.ok ? await response.json() : { samples: [] };
  const items = samples.map((sample) => el("li", {}, sampleButton(sample, onFiles)));
  byId("samples").querySelector("ul").replaceChildren(...items);
  byId("samples").hidden = samples.length === 0;
}

function sampleButton(sample, onFiles) {
  const address = `samples/${sample.file}`;
  const take = async () => {
    const content = await fetch(address).then((response) => response.blob());
    onFiles([new File([content], `Sample: ${sample.title}`, { type: content.type })]);
  };
  const picture = el("img", { src: address, alt: "", width: 64, height: 64, loading: "lazy" });
  return el("button", { type: "button", class: "sample", onclick: take }, picture, el("span", {}, sample.title));
}
