"""Shortcut probes: how well classifiers that do not see the lungs predict the class and the source, on the same folds.

A probe is a classifier that sees only part of an image or of its file's facts; its control is the model that sees the
whole image. `RULE` defines when a probe counts as a shortcut. It applies to the probes that see no lungs: one on file
metadata (its control is the study's winner) and one on images with the lungs blacked out (its control is the same
classifier on whole images). The probe on the lungs alone is reported, but is never a shortcut; nor is the one on images
without an outline of the same shape for all patients, which shows how much the shape of the black lungs gives away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.findings import PROBE_INPUTS, ProbeFinding, SourceFinding
from cxr_platform.evaluation.formatting import count, percent, rate
from cxr_platform.evaluation.pictures import Picture
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections.rate_bars import Bar, Labels, rate_bars
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, study_seed
from cxr_platform.evaluation.statistics.external import interval_values
from cxr_platform.evaluation.statistics.shortcuts import (
    RULE,
    ProbeRates,
    exceeds_chance,
    is_shortcut,
    predicted_classes,
    probe_rates,
    share_kept,
)
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import POSITIVE_CLASS

NAME, TITLE = "shortcuts", "Shortcuts: what can be predicted without the lungs"
WINNER, METADATA, WHOLE, WITHOUT, ONLY = "winner", "metadata", "whole-image", "without-lungs", "lungs-only"
OUTLINE = "without-outline"
CLASS_PARTS = {
    **{WHOLE: "pixel_probes", METADATA: "metadata_probe", WITHOUT: "pixel_probes"},
    **{OUTLINE: "pixel_probes", ONLY: "pixel_probes"},
}
"""Probe of the class → the part of the evidence that has its predictions."""
SOURCE_PARTS = ("metadata_source_probe", "pixel_source_probes")

PROBE_TITLES = {
    METADATA: "File metadata, no pixels",
    WHOLE: "Whole image, same classifier",
    WITHOUT: "Lungs blacked out",
    OUTLINE: "Outline of any chest blacked out (control)",
    ONLY: "Lungs only",
}
PROBE_SUBJECTS = {
    METADATA: "A random forest that sees the size, shape, colour mode and brightness of the file, but no pixels,",
    WITHOUT: "A simple classifier on images with the lungs blacked out",
    OUTLINE: "A simple classifier on images without an outline that has the same shape for all patients",
    ONLY: "A simple classifier on the lungs alone, with everything else black,",
}
CONCLUSIONS = {
    (METADATA, True): "how the files were made explains most of what the network achieves",
    (METADATA, False): "how the files were made explains less than half of what the network achieves",
    (WITHOUT, True): "most of what this classifier uses lies outside the lungs",
    (WITHOUT, False): "without the lungs this classifier loses most of what it uses",
    (OUTLINE, False): "what is lost beyond the probe without lungs lies in the heart or in the shape of the lungs",
}
"""(probe, whether it is a shortcut) → what that means."""
LIMITS = (
    "The lungs are found by a small network that was trained on drawn images; they include what lies behind the heart, "
    "and the black areas still show their shape. The control is an outline of the same shape for all patients, which "
    "covers the heart and the spine too. The classifier is a logistic regression on features of a network that was "
    "trained on photographs only; it shows what the images contain, not what the study's own networks use. Some signs "
    "of disease, such as a large heart or tubes, do lie outside the lungs."
)


SOURCE_NOTE = "Collections of one origin, a hospital or a publication, count as one source."


@dataclass(frozen=True)
class ShortcutResults:
    """The probes of the class and of the source that were computed; empty if there are none.

    `references` are the rates of the winner and, if it was computed, of the probe on whole images.
    """

    probes: tuple[ProbeFinding, ...] = ()
    sources: tuple[SourceFinding, ...] = ()
    references: Mapping[str, ProbeRates] | None = None


def compute(inputs: ReportInputs) -> ShortcutResults:
    """Return the rates of the probes with their references, and how well the source is predicted."""
    predictions, chance = inputs.predictions, inputs.results.majority_accuracy
    frames = {name: inputs.evidence.parts.get(part) for name, part in CLASS_PARTS.items()}
    if chance is None or all(frame is None for frame in frames.values()):
        return ShortcutResults()
    bootstrap = Bootstrap(predictions.group_id, seed=study_seed(inputs.study))
    winner = np.argmax(predictions.probability[inputs.results.decision.winner], axis=1)
    rates = {WINNER: probe_rates(bootstrap, predictions.label, winner)}
    for name, frame in frames.items():
        if frame is not None and (frame["probe"] == name).any():
            predicted = predicted_classes(frame[frame["probe"] == name], predictions.image_id)
            rates[name] = probe_rates(bootstrap, predictions.label, predicted)
    whole = rates.get(WHOLE, rates[WINNER]).accuracy
    references = {METADATA: rates[WINNER].accuracy, WITHOUT: whole, OUTLINE: whole, ONLY: whole}
    return ShortcutResults(
        tuple(_probe(name, rates[name], references[name], chance) for name in references if name in rates),
        _source_probes(inputs, bootstrap),
        {name: rates[name] for name in (WINNER, WHOLE) if name in rates},
    )


def render(inputs: ReportInputs, results: ShortcutResults) -> Section:
    """Show the probes next to the winner, what each means, and how well the source itself is predicted."""
    probes, sources, synthetic = results.probes, results.sources, inputs.synthetic
    if not probes:
        return Section(NAME, TITLE, absent=inputs.evidence.why_absent(CLASS_PARTS[METADATA]))
    lead = [_verdict(probes), *(p.sentence for p in probes if not p.shortcut)]
    if sources:
        lead.append(source_sentence(max(sources, key=lambda probe: probe.accuracy.value or 0)))
    if CLASS_PARTS[WITHOUT] in inputs.evidence.parts:
        lead += [*sampled_sentence(inputs), *_not_found(inputs.evidence.parts[CLASS_PARTS[WITHOUT]]), LIMITS]
    else:
        lead.append(f"The probes of pixels are missing. {inputs.evidence.why_absent(CLASS_PARTS[WITHOUT])}")
    return Section(
        NAME,
        TITLE,
        lead=tuple(lead),
        pictures=(_picture(inputs, results),),
        tables=(_probe_table(inputs, results), *([_source_table(sources, synthetic)] if sources else [])),
        warnings=tuple(p.sentence for p in probes if p.shortcut),
        values={
            "rule": RULE,
            "chance": inputs.results.majority_accuracy,
            "probes": {p.name: _probe_values(p) for p in probes},
            "sources": {s.probe: {"accuracy": interval_values(s.accuracy), "chance": s.chance} for s in sources},
        },
    )


def probe_sentence(name: str, accuracy: Interval, reference: Interval, chance: float, *, shortcut: bool) -> str:
    """Return what a probe sees, its accuracy next to that of its reference, and what that means."""
    kept = share_kept(accuracy.value, reference.value, chance)
    compared = "the winner" if name == METADATA else "the same classifier on whole images"
    reached = (
        f"{PROBE_SUBJECTS[name]} reaches {rate(accuracy)} accuracy, {compared} {percent(reference.value)}, chance "
        f"{percent(chance)}."
    )
    if kept is None:
        return (
            f"{reached} {compared[:1].upper()}{compared[1:]} is not better than chance, so that this is inconclusive."
        )
    share = percent(100 * max(0.0, kept))
    if name == ONLY:
        return f"{reached} The lungs carry {share} of the lead over chance."
    return f"{reached} Of the lead over chance {share} remains: {CONCLUSIONS[name, shortcut]}."


def source_sentence(probe: SourceFinding) -> str:
    """Return how often a probe predicts the source correctly."""
    return (
        f"The source is predicted correctly from {PROBE_INPUTS[probe.probe]} for {rate(probe.accuracy)} of the images; "
        f"always answering the largest of the {probe.sources} sources would be right for {percent(probe.chance)}."
    )


def sampled_sentence(inputs: ReportInputs) -> list[str]:
    """Return a sentence on the images of analyses that sample large studies, none if it is all images."""
    frame, images = inputs.evidence.parts.get(CLASS_PARTS[WITHOUT]), len(inputs.predictions.image_id)
    probed = images if frame is None else frame["image_id"].nunique()
    if probed == images:
        return []
    return [f"Computed on {probed:,} of {images:,} images, all those of patients drawn at random."]


def _not_found(frame: pd.DataFrame) -> list[str]:
    """Return a sentence on the images whose lungs the segmenter did not find, none if it found all."""
    if "lungs_found" not in frame or frame["lungs_found"].all():
        return []
    found = frame.drop_duplicates("image_id")["lungs_found"]
    without = count(int((~found).sum()), "image", "images")
    return [f"On {without} of {len(found):,} no plausible lungs were found; the outline took their place there."]


def _probe(name: str, rates: ProbeRates, reference: Interval, chance: float) -> ProbeFinding:
    shortcut = name not in (ONLY, OUTLINE) and is_shortcut(rates.accuracy, reference, chance)
    sentence = probe_sentence(name, rates.accuracy, reference, chance, shortcut=shortcut)
    return ProbeFinding(name, PROBE_TITLES[name], *rates, reference, chance, shortcut, sentence)


def _source_probes(inputs: ReportInputs, bootstrap: Bootstrap) -> tuple[SourceFinding, ...]:
    """Return how well the probes predict the source; those of one origin count as one, as in the evidence."""
    predictions, probes = inputs.predictions, []
    origins = np.array([inputs.study.manifest.origin_of(source) for source in predictions.source], object)
    names, counts = np.unique(origins.astype(str), return_counts=True)
    chance = 100 * float(counts.max() / counts.sum())
    for part in SOURCE_PARTS:
        frame = inputs.evidence.parts.get(part)
        for probe, rows in [] if frame is None else frame.groupby("probe", sort=False):
            predicted = rows.set_index("image_id")["predicted"].reindex(predictions.image_id)
            probed = predicted.notna().to_numpy()
            accuracy = bootstrap.rate(predicted.to_numpy() == origins, probed)
            probes.append(SourceFinding(str(probe), accuracy, chance, len(names)))
    return tuple(probes)


def _verdict(probes: Sequence[ProbeFinding]) -> str:
    shortcuts = [probe.title.lower() for probe in probes if probe.shortcut]
    if shortcuts:
        return f"Shortcut found ({' and '.join(shortcuts)}). {RULE}"
    if not any(exceeds_chance(probe.control, probe.chance) for probe in probes):
        return f"The probes are inconclusive: what they are compared with is not clearly better than chance. {RULE}"
    return f"No shortcut found by the probes that were computed. {RULE}"


def _all_rates(results: ShortcutResults) -> dict[str, ProbeRates]:
    probes = {p.name: ProbeRates(p.accuracy, p.sensitivity, p.specificity) for p in results.probes}
    return {**(results.references or {}), **probes}


def _picture(inputs: ReportInputs, results: ShortcutResults) -> Picture:
    looks = {probe.name: "alarm" if probe.shortcut else "plain" for probe in results.probes}
    names = {WINNER: f"winner\n{inputs.results.decision.winner}"}
    bars = [
        Bar(names.get(name, name.replace("-", "\n", 1)), rates.accuracy, looks.get(name, "reference"))
        for name, rates in _all_rates(results).items()
    ]
    labels = Labels(
        "shortcuts",
        title="Accuracy without the lungs",
        axis="7-class accuracy (% of images)",
        caption="7-class accuracy of the winner, of the same simple classifier on whole and on masked images, and of a "
        "random forest that sees no pixels",
        alt="Bars of 7-class accuracy in percent",
    )
    return rate_bars(bars, labels, chance=inputs.results.majority_accuracy, synthetic=inputs.synthetic)


def _probe_table(inputs: ReportInputs, results: ShortcutResults) -> Table:
    probes = {probe.name: probe for probe in results.probes}
    titles = {**PROBE_TITLES, WINNER: f"The winner, {inputs.results.decision.winner}"}
    rows = []
    for name, rates in _all_rates(results).items():
        kept, judged = None, "reference"
        if name in probes:
            kept, judged = _percent_kept(probes[name]), _probe_verdict(probes[name])
        rows.append(Row((titles[name],), (*rates, kept, judged), "winner" if name == WINNER else ""))
    rows.append(Row(("Always the most frequent class",), (inputs.results.majority_accuracy, None, None, None, "")))
    columns = ("Accuracy 7-class (%)", "Sensitivity (%)", "Specificity (%)", "lead over chance kept (%)", "verdict")
    title = "Shortcut probes next to the winner, on the same folds"
    note = f"{RULE} Sensitivity and specificity are those of {POSITIVE_CLASS} against the rest."
    return Table("shortcuts", title, ("Input",), columns, tuple(rows), note, inputs.synthetic)


def _probe_verdict(probe: ProbeFinding) -> str:
    if probe.name in (ONLY, OUTLINE):
        return "information in the lungs" if probe.name == ONLY else "control"
    if not exceeds_chance(probe.control, probe.chance):
        return "inconclusive"
    return "shortcut" if probe.shortcut else "none found"


def _percent_kept(probe: ProbeFinding) -> float | None:
    kept = share_kept(probe.accuracy.value, probe.control.value, probe.chance)
    return None if kept is None else 100 * kept


def _source_table(sources: Sequence[SourceFinding], synthetic: bool) -> Table:
    titles = {**PROBE_TITLES, WHOLE: "Whole image"}
    rows = tuple(Row((titles[s.probe],), (s.accuracy, s.chance, s.sources)) for s in sources)
    columns = ("Source predicted correctly (%)", "always the largest source (%)", "sources")
    title = "How well the source of an image is predicted"
    return Table("source-probes", title, ("Input",), columns, rows, SOURCE_NOTE, synthetic)


def _probe_values(probe: ProbeFinding) -> dict[str, Any]:
    rates = ("accuracy", "sensitivity", "specificity", "control")
    plain = {name: interval_values(getattr(probe, name)) for name in rates}
    return {**plain, "shortcut": probe.shortcut, "lead_kept": _percent_kept(probe)}
