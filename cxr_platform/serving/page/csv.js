// The table as a CSV file (RFC 4180), with the seven probabilities.

const NOTICE = "For research, not for diagnosis.";

/** The text of a CSV file for rows of `batch.js`. */
export function toCsv(rows) {
  const labels = Object.keys(rows.find((row) => row.result?.probabilities)?.result.probabilities ?? {});
  const head = ["image", "decision", "label", "covid19_probability", ...labels.map((label) => `p_${label}`),
    "reason", "findings", "problem", "model_version", "synthetic_model", "request_id", "notice"];
  const lines = [head, ...rows.map((row) => cells(row, labels))];
  return lines.map((line) => line.map(quoted).join(",") + "\r\n").join("");
}

/** Hand a text over as a file. */
export function download(name, text) {
  const address = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv;charset=utf-8" }));
  Object.assign(document.createElement("a"), { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

function cells({ file, result, problem }, labels) {
  const probabilities = labels.map((label) => result?.probabilities?.[label]);
  const findings = result?.findings.map((finding) => `${finding.code}: ${finding.detail}`).join("; ");
  return [file.name, result?.decision, result?.label, result?.covid19_probability, ...probabilities, result?.reason,
    findings, problem && `${problem.reason || problem.status}: ${problem.title}`, result?.model.version,
    result?.model.synthetic, result?.request_id ?? problem?.requestId, NOTICE];
}

/** A text that a spreadsheet would take for a formula is marked as text. */
function quoted(value) {
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  const text = String(value ?? "").replace(/^[=+\-@\t\r]/, "'$&");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
