"""Is it the disease that the network sees? What can be told without looking at the lungs, under the same folds.

`statistics.shortcut.RULE` says when a probe counts as a shortcut. It is put to the probes that see no lung: facts of
the file (beside the study's winner) and images whose lung field is black (beside the same recipe on whole images). What
the lung field alone carries is stated and never called a shortcut.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.findings import ProbeFinding, SourceFinding
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections.probe_words import NAMES, SOURCE_NAMES, caution, probe_sentence, source_sentence
from cxr_platform.evaluation.sections.rate_bars import Bar, Words, rate_bars
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, study_seed
from cxr_platform.evaluation.statistics.external import interval_values
from cxr_platform.evaluation.statistics.shortcut import RULE, exceeds_chance, is_shortcut, share_kept
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

NAME, TITLE = "shortcuts", "What can be told without the lungs"
WINNER, METADATA, WHOLE, WITHOUT, ONLY = "winner", "metadata", "whole-image", "without-lungs", "lungs-only"
CLASS_PARTS = {METADATA: "metadata_probe", WHOLE: "pixel_probes", WITHOUT: "pixel_probes", ONLY: "pixel_probes"}
SOURCE_PARTS = ("metadata_source_probe", "pixel_source_probes")

Rates = tuple[Interval, Interval, Interval]
"""7-class accuracy, Covid19 sensitivity and specificity, in percent."""
Found = tuple[tuple[ProbeFinding, ...], tuple[SourceFinding, ...]]


def find(inputs: ReportInputs) -> Found:
    """The probes that were computed, in the order of `CLASS_PARTS` without the control, and those of the source."""
    chance, rates = inputs.results.majority_accuracy, _rates(inputs, [METADATA, WITHOUT, ONLY])
    if chance is None or not rates:
        return (), ()
    controls = _rates(inputs, [WHOLE])
    whole = controls.get(WHOLE, controls[WINNER])[0]
    beside = {METADATA: controls[WINNER][0], WITHOUT: whole, ONLY: whole}
    probes = [_finding(name, found, beside[name], chance) for name, found in rates.items() if name != WINNER]
    return tuple(probes), tuple(_sources(inputs))


def section(inputs: ReportInputs, found: Found) -> Section:
    """The probes beside the winner, what each means, and how well the source itself is told."""
    probes, sources = found
    if not probes:
        return Section(NAME, TITLE, absent=inputs.evidence.why_absent("metadata_probe"))
    rates = {**_rates(inputs, [WHOLE]), **{p.name: (p.accuracy, p.sensitivity, p.specificity) for p in probes}}
    best = sorted(sources, key=lambda found: found.accuracy.value or 0)[-1:]
    told = (p.sentence for p in probes if not p.shortcut)
    return Section(
        NAME,
        TITLE,
        lead=(_verdict(probes), *told, *map(source_sentence, best), *_missing(inputs)),
        pictures=(_picture(inputs, rates, probes),),
        tables=(_table(inputs, rates, probes), *_source_tables(inputs, sources)),
        warnings=tuple(p.sentence for p in probes if p.shortcut),
        values=_values(inputs, found),
    )


def _rates(inputs: ReportInputs, names: Sequence[str]) -> dict[str, Rates]:
    """Of the winner and of those of the probes called `names` that there are, over the same images; empty without any
    probe."""
    import numpy as np

    predictions, parts = inputs.predictions, inputs.evidence.parts
    if not parts.keys() & CLASS_PARTS.values():
        return {}
    bootstrap = Bootstrap(predictions.group_id, seed=study_seed(inputs.study))
    likeliest = np.argmax(predictions.probability[inputs.results.decision.winner], axis=1)
    found = {WINNER: measured(bootstrap, predictions.label, likeliest)}
    for name in names:
        frame = parts.get(CLASS_PARTS[name])
        if frame is not None:
            predicted = _aligned(frame[frame["probe"] == name], predictions.image_id)
            found[name] = measured(bootstrap, predictions.label, predicted)
    return found


def _aligned(frame: "pd.DataFrame", image_ids: "np.ndarray") -> "np.ndarray":
    """Predicted positions in `CLASSES` (N,) in the order of `image_ids`."""
    columns = [f"p_{label}" for label in CLASSES]
    values: np.ndarray = frame.set_index("image_id").loc[image_ids, columns].to_numpy().argmax(axis=1)
    return values


def measured(bootstrap: Bootstrap, labels: "np.ndarray", predicted: "np.ndarray") -> Rates:
    """The three rates of predicted positions in `CLASSES` (N,), with intervals."""
    positive = CLASSES.index(POSITIVE_CLASS)
    hit = (labels == positive) == (predicted == positive)
    return (
        bootstrap.rate(labels == predicted),
        bootstrap.rate(hit, labels == positive),
        bootstrap.rate(hit, labels != positive),
    )


def _finding(name: str, rates: Rates, control: Interval, chance: float) -> ProbeFinding:
    shortcut = name != ONLY and is_shortcut(rates[0], control, chance)
    sentence = probe_sentence(name, rates[0], control, chance, shortcut=shortcut)
    return ProbeFinding(name, NAMES[name], *rates, control, chance, shortcut, sentence)


def _sources(inputs: ReportInputs) -> list[SourceFinding]:
    import numpy as np

    predictions, found = inputs.predictions, []
    bootstrap = Bootstrap(predictions.group_id, seed=study_seed(inputs.study))
    names, counts = np.unique(predictions.source, return_counts=True)
    for part in SOURCE_PARTS:
        frame = inputs.evidence.parts.get(part)
        for probe, rows in [] if frame is None else frame.groupby("probe", sort=False):
            told = rows.set_index("image_id").loc[predictions.image_id, "predicted"].to_numpy()
            rate_right = bootstrap.rate(told == predictions.source)
            found.append(SourceFinding(str(probe), rate_right, 100 * float(counts.max() / counts.sum()), len(names)))
    return found


def _verdict(probes: Sequence[ProbeFinding]) -> str:
    found = [probe.title.lower() for probe in probes if probe.shortcut]
    if found:
        return f"Shortcut found ({' and '.join(found)}). {RULE}"
    if not any(exceeds_chance(probe.control, probe.chance) for probe in probes):
        return f"Nothing to explain: what the probes are compared with is not clearly better than chance. {RULE}"
    return f"No shortcut found by the probes that were computed. {RULE}"


def _missing(inputs: ReportInputs) -> list[str]:
    """Why there are no probes of pixels, where that is so; what else a reader has to know of them."""
    if "pixel_probes" in inputs.evidence.parts:
        return [caution()]
    return [f"The probes of pixels are missing. {inputs.evidence.why_absent('pixel_probes')}"]


def _picture(inputs: ReportInputs, rates: dict[str, Rates], probes: Sequence[ProbeFinding]) -> Any:
    looks = {probe.name: "alarm" if probe.shortcut else "plain" for probe in probes}
    bars = [Bar(_short(name, inputs), r[0], looks.get(name, "control")) for name, r in rates.items()]
    words = Words(
        "shortcuts",
        "Told without the lungs?",
        "7-class accuracy (% of images)",
        "7-class accuracy of the winner, of the same simple recipe on whole and on masked images, and of a random "
        "forest that sees no pixel",
        "Bars of 7-class accuracy in percent",
    )
    return rate_bars(bars, words, chance=inputs.results.majority_accuracy, synthetic=inputs.synthetic)


def _short(name: str, inputs: ReportInputs) -> str:
    return f"winner\n{inputs.results.decision.winner}" if name == WINNER else name.replace("-", "\n", 1)


def _table(inputs: ReportInputs, rates: dict[str, Rates], probes: Sequence[ProbeFinding]) -> Table:
    known = {probe.name: probe for probe in probes}
    rows = []
    for name, values in rates.items():
        probe = known.get(name)
        verdict = "to compare with" if probe is None else _judged(probe)
        rows.append(Row((_title(name, inputs),), (*values, _kept(probe), verdict), "winner" * (name == WINNER)))
    rows.append(Row(("Always the most frequent class",), (inputs.results.majority_accuracy, None, None, None, "")))
    columns = ("Accuracy 7-class (%)", "Sensitivity (%)", "Specificity (%)", "lead kept (%)", "verdict")
    note = f"{RULE} Sensitivity and specificity are those of {POSITIVE_CLASS} against the rest."
    title = "Shortcut probes beside the winner, under the same folds"
    return Table("shortcuts", title, ("What is seen",), columns, tuple(rows), note, inputs.synthetic)


def _title(name: str, inputs: ReportInputs) -> str:
    return f"The winner, {inputs.results.decision.winner}" if name == WINNER else NAMES[name]


def _judged(probe: ProbeFinding) -> str:
    if probe.name == ONLY:
        return "what the lungs carry"
    if not exceeds_chance(probe.control, probe.chance):
        return "nothing to explain"
    return "shortcut" if probe.shortcut else "none found"


def _kept(probe: ProbeFinding | None) -> float | None:
    kept = share_kept(probe.accuracy.value, probe.control.value, probe.chance) if probe else None
    return None if kept is None else 100 * kept


def _source_tables(inputs: ReportInputs, sources: Sequence[SourceFinding]) -> tuple[Table, ...]:
    if not sources:
        return ()
    rows = tuple(Row((SOURCE_NAMES[s.probe],), (s.accuracy, s.chance, s.sources)) for s in sources)
    columns = ("Source told right (%)", "always the largest (%)", "sources")
    title = "How well the source of an image is told"
    return (Table("source-probes", title, ("What is seen",), columns, rows, "", inputs.synthetic),)


def _values(inputs: ReportInputs, found: Found) -> dict[str, Any]:
    probes, sources = found
    return {
        "rule": RULE,
        "chance": inputs.results.majority_accuracy,
        "probes": {p.name: {**_plain(p), "shortcut": p.shortcut, "lead_kept": _kept(p)} for p in probes},
        "sources": {s.probe: {"accuracy": interval_values(s.accuracy), "chance": s.chance} for s in sources},
    }


def _plain(probe: ProbeFinding) -> dict[str, Any]:
    names = ("accuracy", "sensitivity", "specificity", "control")
    return {name: interval_values(getattr(probe, name)) for name in names}
