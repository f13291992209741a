// How the page says things.

/** What is decided is on which side of a point the Covid-19 probability lies, not which class is likeliest. */
export const DECISIONS = {
  positive: { title: "Positive", gist: (point) => `The Covid\u201119 probability is clearly above ${point}.` },
  negative: { title: "Negative", gist: (point) => `The Covid\u201119 probability is clearly below ${point}.`,
    brief: "It is clearly below that point." },
  indeterminate: { title: "Indeterminate", gist: (point) => `Too close to ${point} to be called either way.`,
    brief: "It is too close to that point to be called either way." },
  "not-screenable": { title: "Not screenable", gist: () => "The model gives no answer for this image." },
};

/** The point by what it was chosen for; a stated share of images where `sensitivity` (0 to 1) is not known yet. */
export function pointOf(sensitivity = null) {
  const share = sensitivity === null ? "a stated share" : `${+(100 * sensitivity).toFixed(1)}\u00a0%`;
  return `the point chosen to find ${share} of Covid\u201119 images`;
}

const CLASSES = { Covid19: "Covid\u201119", Emphysema: "Emphysema (COPD)" };

/** The name of a class as a person reads it; a hyphen that does not break. */
export const className = (label) => CLASSES[label] ?? label;

/** A share from 0 to 1 as percent, with one decimal. */
export const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;

/** "1 image", "2 images". */
export const count = (number, one) => `${number.toLocaleString("en")} ${one}${number === 1 ? "" : "s"}`;

/** Begun with a capital, ended with a full stop. */
export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1).replace(/\.?$/, ".");

/** An answer in one breath, for those who hear it. */
export function spoken(name, answer) {
  const { title } = DECISIONS[answer.decision];
  if (!answer.label) return `${name}: ${title}. ${sentence(answer.reason)}`;
  const most = percent(answer.probabilities[answer.label]);
  return `${name}: ${title}. ${sentence(answer.reason)} Most probable: ${className(answer.label)}, ${most}.`;
}
