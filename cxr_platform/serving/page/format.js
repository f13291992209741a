// Texts and number formats.

/** The decision says on which side of the operating point the Covid-19 probability is, not which class is most probable. */
export const DECISIONS = {
  positive: {
    title: "Positive",
    text: (point) => `The Covid\u201119 probability is clearly above ${point}.`,
  },
  negative: {
    title: "Negative",
    text: (point) => `The Covid\u201119 probability is clearly below ${point}.`,
    shortText: "The probability is clearly below this operating point.",
  },
  indeterminate: {
    title: "Indeterminate",
    text: (point) => `The Covid\u201119 probability is too close to ${point} for a decision.`,
    shortText: "The probability is too close to this operating point for a decision.",
  },
  "not-screenable": { title: "Not screenable", text: () => "The model gives no result for this image." },
};

/** The operating point in words; `sensitivity` (0 to 1) is its target, or `null` if not known yet. */
export function operatingPoint(sensitivity = null) {
  const target = sensitivity === null ? "the target sensitivity" : `${+(100 * sensitivity).toFixed(1)}\u00a0% sensitivity`;
  return `the operating point for ${target}`;
}

const CLASS_NAMES = { Covid19: "Covid\u201119", Emphysema: "Emphysema (COPD)" };

/** The name of a class for readers; its hyphen does not break. */
export const className = (label) => CLASS_NAMES[label] ?? label;

/** A share from 0 to 1 as percent with one decimal. */
export const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;

/** "1 image", "2 images". */
export const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

/** The text with a capital letter at the start and a full stop at the end. */
export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1).replace(/\.?$/, ".");

/** The answer in one text, for screen readers. */
export function spokenAnswer(name, answer) {
  const decision = `${name}: ${DECISIONS[answer.decision].title}. ${sentence(answer.reason)}`;
  if (!answer.label) return decision;
  return `${decision} Most probable class: ${className(answer.label)}, ${percent(answer.probabilities[answer.label])}.`;
}
