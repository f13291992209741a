// How the page says things.

export const DECISIONS = {
  positive: { title: "Positive", gist: "The model takes this for a film with Covid\u201119." },
  negative: { title: "Negative", gist: "The model takes this for a film without Covid\u201119." },
  indeterminate: { title: "Indeterminate", gist: "Too close to the threshold to be called either way." },
  "not-screenable": { title: "Not screenable", gist: "The model gives no answer for this film." },
};

const CLASSES = { Covid19: "Covid\u201119", Emphysema: "Emphysema (COPD)" };

/** The name of a class as a person reads it; a hyphen that does not break. */
export const className = (label) => CLASSES[label] ?? label;

/** A share from 0 to 1 as percent, with one decimal. */
export const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;

/** "1 film", "2 films". */
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
