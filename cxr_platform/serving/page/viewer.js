// The image on the stage with the heatmap over it. Both fill the same square, as in the network's letterbox.

import { byId } from "./dom.js";
import { className } from "./format.js";

const dataUrl = (base64) => `data:image/png;base64,${base64}`;

export class Viewer {
  #stage = byId("stage");
  #image = byId("image");
  #heatmap = byId("heatmap");
  #note = byId("stage-note");
  #text = byId("heatmap-text");
  #slider = byId("slider");
  #opacity = byId("opacity");
  #address = null;

  constructor() {
    this.#opacity.addEventListener("input", () => this.#updateOpacity());
    this.#updateOpacity();
  }

  /** Show an image file, if the browser can. */
  async showFile(file) {
    this.clear();
    const address = URL.createObjectURL(file);
    this.#address = address;
    const loaded = await load(this.#image, address);
    if (this.#address !== address) return; // another image was opened meanwhile
    this.#image.alt = loaded ? `The image ${file.name}` : "";
    this.#image.hidden = !loaded;
    this.#stage.dataset.state = loaded ? "image" : "unsupported";
    this.#setNote(loaded ? "" : "The browser cannot display this file. The server may still be able to read it.");
  }

  /** Show the explanation of an answer, with the image as the server decoded it if the browser could not. */
  async showExplanation(explanation) {
    const unsupported = this.#stage.dataset.state === "unsupported";
    if (!explanation) {
      if (unsupported) this.#showNothing();
      return;
    }
    if (unsupported) await this.#showDecoded(explanation);
    if (explanation.heatmap_png) await this.#showHeatmap(explanation);
    else this.#setText(`No heatmap: ${explanation.missing ?? "the server sent none."}`);
  }

  setWaiting(waiting) {
    this.#stage.toggleAttribute("data-waiting", waiting);
  }

  clear() {
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.#address = null;
    for (const image of [this.#image, this.#heatmap]) {
      image.hidden = true;
      image.removeAttribute("src");
      image.alt = "";
    }
    this.#stage.dataset.state = "empty";
    this.#slider.hidden = true;
    this.#text.hidden = true;
    this.#setNote("");
  }

  async #showDecoded(explanation) {
    this.#image.hidden = !(await load(this.#image, dataUrl(explanation.image_png)));
    this.#image.alt = "The image as decoded for the network, in low resolution";
    this.#stage.dataset.state = "image";
    this.#setNote("Shown as decoded for the network, because the browser cannot display this file.");
  }

  #showNothing() {
    this.#stage.dataset.state = "none";
    this.#setNote("This file cannot be displayed.");
  }

  async #showHeatmap(explanation) {
    const name = className(explanation.target);
    const loaded = await load(this.#heatmap, dataUrl(explanation.heatmap_png));
    const region = loaded ? hottestRegion(this.#heatmap) : null;
    this.#heatmap.hidden = region === null;
    this.#slider.hidden = region === null;
    this.#heatmap.alt = `Heatmap for ${name}, strongest in the ${region} of the image`;
    if (region === null) return this.#setText(`No region of the image stands out for ${name}, so there is no heatmap.`);
    return this.#setText(
      `Orange regions increase the probability of ${name}, most in the ${region} of the image. ` +
        "The heatmap shows what the network uses, which need not be where a disease is.",
    );
  }

  #updateOpacity() {
    const { value } = this.#opacity;
    this.#heatmap.style.opacity = String(Number(value) / 100);
    byId("opacity-value").textContent = `${value}\u00a0%`;
  }

  #setText(text) {
    this.#text.textContent = text;
    this.#text.hidden = false;
  }

  #setNote(text) {
    this.#note.textContent = text;
    this.#note.hidden = !text;
  }
}

async function load(image, address) {
  image.src = address;
  return image.decode().then(() => true, () => false);
}

const REGIONS = [
  "upper left", "upper middle", "upper right",
  "middle left", "middle", "middle right",
  "lower left", "lower middle", "lower right",
];
const REGION_PIXELS = 8; // side of a region in the sampled heatmap

/** The ninth of a loaded heatmap that is least transparent, in words; `null` if all of it is transparent. */
function hottestRegion(image) {
  const side = 3 * REGION_PIXELS;
  const canvas = Object.assign(document.createElement("canvas"), { width: side, height: side });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, side, side);
  const sums = new Array(9).fill(0);
  const { data } = context.getImageData(0, 0, side, side);
  for (let pixel = 0; pixel < side * side; pixel += 1) {
    const row = Math.floor(pixel / side / REGION_PIXELS);
    const column = Math.floor((pixel % side) / REGION_PIXELS);
    sums[3 * row + column] += data[4 * pixel + 3]; // alpha
  }
  const most = Math.max(...sums);
  return most > 0 ? REGIONS[sums.indexOf(most)] : null;
}
