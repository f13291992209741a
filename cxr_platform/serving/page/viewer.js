// The image on the stage, and the heatmap over it. Both fit into the same square, as the network's letterbox does.

import { byId } from "./dom.js";
import { className } from "./words.js";
import { whereHottest } from "./hottest.js";

const png = (text) => `data:image/png;base64,${text}`;

export class Viewer {
  #stage = byId("stage");
  #image = byId("image");
  #heat = byId("heat");
  #note = byId("stage-note");
  #text = byId("heat-text");
  #slider = byId("slider");
  #strength = byId("strength");
  #address = null;

  constructor() {
    this.#strength.addEventListener("input", () => this.#fade());
    this.#fade();
  }

  /** Put an image up, if the browser can show it. */
  async hang(file) {
    this.clear();
    const address = URL.createObjectURL(file);
    this.#address = address;
    const shown = await load(this.#image, address);
    if (this.#address !== address) return; // another image came first
    this.#image.alt = shown ? `The image ${file.name}` : "";
    this.#image.hidden = !shown;
    this.#stage.dataset.state = shown ? "image" : "unseen";
    this.#say(shown ? "" : "A browser cannot show this file. If it is an image, the server can.");
  }

  /** Lay an answer's explanation over the image; `null` where the answer has none. */
  async explain(explanation) {
    if (!explanation) {
      if (this.#stage.dataset.state === "unseen") this.#hangNothing();
      return;
    }
    if (this.#stage.dataset.state === "unseen") await this.#hangAsSeen(explanation);
    if (explanation.heatmap_png) await this.#lay(explanation);
    else this.#caption(`No heatmap: ${explanation.missing ?? "the server gave none"}`);
  }

  /** Say that an answer is on its way, or that it is no more. */
  wait(waiting) {
    this.#stage.toggleAttribute("data-waiting", waiting);
  }

  clear() {
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.#address = null;
    for (const image of [this.#image, this.#heat]) {
      image.hidden = true;
      image.removeAttribute("src");
      image.alt = "";
    }
    this.#stage.dataset.state = "empty";
    this.#slider.hidden = true;
    this.#text.hidden = true;
    this.#say("");
  }

  async #hangAsSeen(explanation) {
    this.#image.hidden = !(await load(this.#image, png(explanation.image_png)));
    this.#image.alt = "The image as the network gets it, small";
    this.#stage.dataset.state = "image";
    this.#say("Shown as the network gets it: a browser cannot show this file itself.");
  }

  #hangNothing() {
    this.#stage.dataset.state = "none";
    this.#say("There is no picture of this file.");
  }

  async #lay(explanation) {
    const name = className(explanation.target);
    const shown = await load(this.#heat, png(explanation.heatmap_png));
    const where = shown ? whereHottest(this.#heat) : null;
    this.#heat.hidden = where === null;
    this.#slider.hidden = where === null;
    this.#heat.alt = `Heatmap for ${name}, hottest in the ${where} of the picture`;
    if (where === null) return this.#caption(`Nothing in the image stands out for ${name}, so there is no heatmap.`);
    return this.#caption(
      `Orange where something in the image speaks for ${name}, most in the ${where} of the picture. ` +
        "It shows where the network looks, which need not be where a disease is.",
    );
  }

  #fade() {
    const { value } = this.#strength;
    this.#heat.style.opacity = String(Number(value) / 100);
    byId("strength-value").textContent = `${value}\u00a0%`;
  }

  #caption(text) {
    this.#text.textContent = text;
    this.#text.hidden = false;
  }

  #say(text) {
    this.#note.textContent = text;
    this.#note.hidden = !text;
  }
}

async function load(image, address) {
  image.src = address;
  return image.decode().then(() => true, () => false);
}
