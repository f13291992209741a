// A decision as a sign of its own shape, so that it is told by more than colour.

import { svg } from "./dom.js";

const RING = { cx: 12, cy: 12, r: 9.5 };
const SHAPES = {
  positive: () => [svg("circle", { ...RING, class: "full" }), svg("path", { d: "M12 7v10M7 12h10", class: "cut" })],
  negative: () => [svg("circle", RING), svg("path", { d: "M7.500 12h9" })],
  indeterminate: () => [svg("circle", RING), svg("path", { d: "M12 2.500a9.500 9.500 0 0 1 0 19z", class: "full" })],
  "not-screenable": () => [svg("circle", { ...RING, class: "dashed" }), svg("path", { d: "M6 18 18 6" })],
  problem: () => [svg("path", { d: "M12 2.500 22 20.500H2z" }), svg("path", { d: "M12 9v6M12 17.300v.700" })],
};

/** The sign of a decision, or of "problem". */
export function mark(decision) {
  const attributes = { class: "mark", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" };
  return svg("svg", { ...attributes, "data-decision": decision }, SHAPES[decision]());
}
