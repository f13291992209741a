// Create and find elements. Texts are inserted as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** An element with attributes, event listeners (`onclick`) and children; `null` and `false` ones are left out. */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** Replace the content of an element and show it. */
export function show(element, ...children) {
  element.replaceChildren(...present(children));
  element.hidden = false;
}

/** Set custom properties of CSS (`--name`); the content security policy forbids style attributes. */
export function setProperties(element, properties) {
  for (const [name, value] of Object.entries(properties)) element.style.setProperty(name, value);
  return element;
}

/** Scroll an element into view, without animation if the user prefers reduced motion. */
export function scrollIntoView(element, block = "nearest") {
  const reduced = matchMedia("(prefers-reduced-motion: reduce)").matches;
  element.scrollIntoView({ behavior: reduced ? "auto" : "smooth", block });
}

const RING = { cx: 12, cy: 12, r: 9.5 };
const ICONS = {
  positive: [["circle", { ...RING, class: "full" }], ["path", { d: "M12 7v10M7 12h10", class: "cut" }]],
  negative: [["circle", RING], ["path", { d: "M7.500 12h9" }]],
  indeterminate: [["circle", RING], ["path", { d: "M12 2.500a9.500 9.500 0 0 1 0 19z", class: "full" }]],
  "not-screenable": [["circle", { ...RING, class: "dashed" }], ["path", { d: "M6 18 18 6" }]],
  problem: [["path", { d: "M12 2.500 22 20.500H2z" }], ["path", { d: "M12 9v6M12 17.300v.700" }]],
};

/** The icon of a decision or of "problem". Each has its own shape, so that colour is not needed to distinguish them. */
export function icon(decision) {
  const attributes = { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false", "data-decision": decision };
  return svg("svg", attributes, ICONS[decision].map(([name, shape]) => svg(name, shape)));
}

function svg(name, attributes, children = []) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...present(children));
  return element;
}

const present = (children) => children.flat().filter((child) => ![null, undefined, false, ""].includes(child));
