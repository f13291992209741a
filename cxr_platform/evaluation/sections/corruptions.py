"""How the winner's answers change with the quality of an image: contrast, blur, JPEG, rotation, crop, marker text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.formatting import joined, rate, text
from cxr_platform.evaluation.pictures import BLUE, VERMILION, Picture, figure_sheet, mark, to_png
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, study_seed
from cxr_platform.evaluation.statistics.comparison import simultaneous_margins
from cxr_platform.evaluation.statistics.external import interval_values
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

NAME, TITLE = "corruptions", "What if an image is of lower quality?"
PART, CLEAN = "corruptions", "none"
KINDS = {
    "contrast": ("Contrast", "% kept", "{:g} % kept"),
    "blur": ("Blur", "σ (% of side)", "σ {:g} % of the side"),
    "jpeg": ("JPEG", "quality", "quality {:g}"),
    "rotation": ("Rotation", "degrees", "{:g}°"),
    "crop": ("Crop", "% cut per edge", "{:g} % cut per edge"),
    "marker": ("Marker text", "font (% of side)", "font {:g} % of the side"),
}
"""Kind → its title, the unit of its strengths, and the text of a strength."""
UNCHANGED = {"contrast": 100.0, "jpeg": 95.0}
"""The place of the unchanged image on the axis of strengths, 0 for the others."""
METHOD = (
    "The images are changed as the network gets them, in its input size, and answered by the network that was not "
    "trained on them. The changes are made up; real images of low quality may differ in several ways at once."
)


@dataclass(frozen=True)
class Corrupted:
    """The winner's rates in percent on images changed by `kind` and `strength`.

    `change` is the accuracy minus that on the same images unchanged, in points.
    """

    kind: str
    strength: float
    accuracy: Interval
    change: Interval
    sensitivity: Interval
    specificity: Interval

    @property
    def worse(self) -> bool:
        """True if the accuracy is significantly lower than on the unchanged images."""
        return self.change.high is not None and self.change.high < 0


def compute(inputs: ReportInputs) -> tuple[Corrupted, ...]:
    """Return the rates on unchanged images, then by kind and strength; empty without evidence of the winner."""
    frame = inputs.evidence.parts.get(PART)
    if frame is None:
        return ()
    frame = frame[frame["strategy"] == inputs.results.decision.winner]
    groups: dict[Any, pd.DataFrame] = {
        name: rows.set_index("image_id") for name, rows in frame.groupby(["corruption", "strength"], sort=False)
    }
    clean = next((rows for (kind, _), rows in groups.items() if kind == CLEAN), None)
    if clean is None:
        return ()
    group_of = dict(zip(inputs.predictions.image_id, inputs.predictions.group_id, strict=True))
    bootstrap = Bootstrap(clean.index.map(group_of).to_numpy(), seed=study_seed(inputs.study))
    labels = np.array([CLASSES.index(label) for label in clean["label"]])
    ordered = {(CLEAN, 0.0): clean, **groups}  # the unchanged images first
    answers = np.stack([_answers(rows.loc[clean.index]) for rows in ordered.values()], axis=1)
    changes = _changes(answers == labels[:, None], bootstrap)
    return tuple(
        _rates(str(kind), float(strength), answers[:, column], labels, changes[column], bootstrap)
        for column, (kind, strength) in enumerate(ordered)
    )


def render(inputs: ReportInputs, measured: Sequence[Corrupted]) -> Section:
    """Show the accuracy, and sensitivity and specificity for Covid19, against the strength of each change."""
    if not measured:
        return Section(NAME, TITLE, absent=inputs.evidence.why_absent(PART))
    frame, clean = inputs.evidence.parts[PART], measured[0]
    images = int((frame["corruption"] == CLEAN).sum())
    lead = (
        f"On {images:,} images, drawn evenly from the classes, {TITLES[inputs.results.decision.winner]} has an "
        f"accuracy of {rate(clean.accuracy)} where nothing is changed.",
        _worse_sentence(measured),
        METHOD,
    )
    return Section(
        NAME,
        TITLE,
        lead=lead,
        pictures=(_picture(measured, inputs.synthetic),),
        tables=(_table(measured, inputs.synthetic),),
        values={"images": images, "changes": [_values(one) for one in measured]},
    )


def _rates(
    kind: str, strength: float, answers: Array, labels: Array, change: Interval, bootstrap: Bootstrap
) -> Corrupted:
    positive = CLASSES.index(POSITIVE_CLASS)
    right = (labels == positive) == (answers == positive)
    return Corrupted(
        kind,
        strength,
        bootstrap.rate(answers == labels),
        change,
        bootstrap.rate(right, labels == positive),
        bootstrap.rate(right, labels != positive),
    )


def _changes(correct: Array, bootstrap: Bootstrap) -> list[Interval]:
    """Return the accuracy of each column of `correct` (N, K) minus that of the first, in points.

    The intervals hold for all K at once: with 18 changes, one of them would else look harmful by chance in up to every
    third study.
    """
    shares, columns = 100 * correct.mean(axis=0), np.arange(correct.shape[1])
    difference = shares - shares[0]
    if bootstrap.groups < 2:
        return [Interval(float(value), signed=True) for value in difference]
    totals = bootstrap.totals(np.column_stack([correct, np.ones(len(correct))]))
    margins = simultaneous_margins(totals, difference, columns, np.zeros_like(columns))
    both = zip(difference.tolist(), margins.tolist(), strict=True)
    return [Interval(value, value - margin, value + margin, signed=True) for value, margin in both]


def _answers(rows: pd.DataFrame) -> Array:
    positions: Array = rows[list(PROBABILITY_COLUMNS)].to_numpy().argmax(axis=1)
    return positions


def _by_kind(measured: Sequence[Corrupted]) -> Mapping[str, list[Corrupted]]:
    return {kind: [one for one in measured if one.kind == kind] for kind in KINDS}


def _worse_sentence(measured: Sequence[Corrupted]) -> str:
    """Return from which strength on each kind of change lowers the accuracy significantly."""
    found, unharmed = [], []
    for kind, changes in _by_kind(measured).items():
        title, _, strength = KINDS[kind]
        first = next((one for one in changes if one.worse), None)
        if first is None:
            unharmed.append(title.lower() if kind != "jpeg" else title)
        else:
            found.append(f"{title} from {strength.format(first.strength)}: {text(first.change)} points")
    lowered = f"The accuracy is significantly lower with: {'; '.join(found)}." if found else ""
    kept = f"No strength that was tried lowers it significantly for: {joined(unharmed)}." if unharmed else ""
    return " ".join(filter(None, (lowered, kept)))


def _table(measured: Sequence[Corrupted], synthetic: bool) -> Table:
    rows = []
    for one in measured:
        title, _, strength = KINDS.get(one.kind, ("Nothing changed", "", ""))
        change = None if one.kind == CLEAN else one.change
        rows.append(
            Row((title, strength.format(one.strength)), (one.accuracy, change, one.sensitivity, one.specificity))
        )
    columns = ("Accuracy 7-class (%)", "change (points)", "Sensitivity (%)", "Specificity (%)")
    note = (
        "95 % confidence intervals by bootstrap over patients. Changes are those of the same images; their intervals "
        f"hold for all rows at once. Sensitivity and specificity are those of {POSITIVE_CLASS} against the rest."
    )
    return Table(
        "corruptions", "Accuracy on changed images", ("Change", "strength"), columns, tuple(rows), note, synthetic
    )


def _picture(measured: Sequence[Corrupted], synthetic: bool) -> Picture:
    clean = measured[0]
    with figure_sheet(6.2, synthetic=synthetic) as figure:
        grid = figure.subplots(2, 3, sharey=True)
        for axes, (kind, changes) in zip(grid.flat, _by_kind(measured).items(), strict=True):
            places = [UNCHANGED.get(kind, 0.0), *(one.strength for one in changes)]
            for values, colour, style, label in (
                ([one.accuracy for one in (clean, *changes)], BLUE, "o-", "7-class accuracy"),
                ([one.sensitivity for one in (clean, *changes)], VERMILION, "s--", f"{POSITIVE_CLASS} sensitivity"),
            ):
                middle = [np.nan if one.value is None else one.value for one in values]
                low = [np.nan if one.low is None else one.low for one in values]
                high = [np.nan if one.high is None else one.high for one in values]
                axes.plot(places, middle, style, color=colour, markersize=4, label=label)
                axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
            if kind in UNCHANGED:
                axes.invert_xaxis()
            title, unit, _ = KINDS[kind]
            axes.set(ylim=(0, 102), xlabel=unit)
            axes.set_title(title, fontsize=11)
            axes.spines[["top", "right"]].set_visible(False)
        grid[0, 0].set_ylabel("% of images")
        grid[1, 0].set_ylabel("% of images")
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
        png = to_png(figure)
    caption = "Each change gets stronger to the right, beginning with the unchanged image. Shaded: 95 % intervals."
    strongest = [changes[-1] for changes in _by_kind(measured).values() if changes]
    listed = "; ".join(f"{KINDS[one.kind][0]} {one.strength:g}: {rate(one.accuracy)}" for one in strongest)
    alt = f"{mark(synthetic)}Curves of accuracy against strength. Unchanged {rate(clean.accuracy)}; {listed}."
    return Picture("corruptions", caption, alt, png)


def _values(one: Corrupted) -> dict[str, object]:
    names = ("accuracy", "change", "sensitivity", "specificity")
    rates = {name: interval_values(getattr(one, name)) for name in names}
    return {"kind": one.kind, "strength": one.strength, **rates}
