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
from cxr_platform.evaluation.statistics.external import interval_values
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

NAME, TITLE = "corruptions", "What if an image is of lower quality?"
PART, CLEAN = "corruptions", "none"
KINDS = {
    "contrast": ("Contrast", "% of the contrast kept"),
    "blur": ("Blur", "% of the side, deviation"),
    "jpeg": ("JPEG", "quality"),
    "rotation": ("Rotation", "degrees"),
    "crop": ("Crop", "% cut at each edge"),
    "marker": ("Marker text", "% of the side, height"),
}
"""Kind → its title and the unit of its strengths."""
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
    reference = _answers(clean)
    return tuple(
        _rates(str(kind), float(strength), _answers(rows.loc[clean.index]), reference, _labels(clean), bootstrap)
        for (kind, strength), rows in groups.items()
    )


def render(inputs: ReportInputs, measured: Sequence[Corrupted]) -> Section:
    """Show the accuracy, and sensitivity and specificity for Covid19, against the strength of each change."""
    if not measured:
        return Section(NAME, TITLE, absent=inputs.evidence.why_absent(PART))
    frame = inputs.evidence.parts[PART]
    clean, images = measured[0], int((frame["corruption"] == CLEAN).sum())
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
    kind: str, strength: float, answers: Array, reference: Array, labels: Array, bootstrap: Bootstrap
) -> Corrupted:
    positive = CLASSES.index(POSITIVE_CLASS)
    right = (labels == positive) == (answers == positive)
    gained = (answers == labels).astype(float) - (reference == labels)
    return Corrupted(
        kind,
        strength,
        bootstrap.rate(answers == labels),
        _mean_difference(gained, bootstrap),
        bootstrap.rate(right, labels == positive),
        bootstrap.rate(right, labels != positive),
    )


def _mean_difference(gained: Array, bootstrap: Bootstrap) -> Interval:
    """Return the mean of differences (N,) of −1, 0 and 1 in points."""
    means = bootstrap.replicate(lambda weights: 100 * (weights @ gained) / weights.sum(axis=1))
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(100 * float(gained.mean()), float(low), float(high), signed=True)


def _answers(rows: pd.DataFrame) -> Array:
    positions: Array = rows[list(PROBABILITY_COLUMNS)].to_numpy().argmax(axis=1)
    return positions


def _labels(rows: pd.DataFrame) -> Array:
    return np.array([CLASSES.index(label) for label in rows["label"]])


def _by_kind(measured: Sequence[Corrupted]) -> Mapping[str, list[Corrupted]]:
    return {kind: [one for one in measured if one.kind == kind] for kind in KINDS}


def _worse_sentence(measured: Sequence[Corrupted]) -> str:
    """Return from which strength on each kind of change lowers the accuracy significantly."""
    found, robust = [], []
    for kind, changes in _by_kind(measured).items():
        title, unit = KINDS[kind]
        first = next((one for one in changes if one.worse), None)
        if first is None:
            robust.append(title.lower() if kind != "jpeg" else title)
        else:
            found.append(f"{title} from {first.strength:g} ({unit}): {text(first.change)} points")
    lowered = f"The accuracy is significantly lower with: {'; '.join(found)}." if found else ""
    kept = f"No strength that was tried lowers it significantly for: {joined(robust)}." if robust else ""
    return " ".join(filter(None, (lowered, kept)))


def _table(measured: Sequence[Corrupted], synthetic: bool) -> Table:
    rows = []
    for one in measured:
        title, unit = KINDS.get(one.kind, ("Nothing changed", ""))
        strength = f"{one.strength:g} {unit}" if unit else ""
        change = None if one.kind == CLEAN else one.change
        rows.append(Row((title, strength), (one.accuracy, change, one.sensitivity, one.specificity)))
    columns = ("Accuracy 7-class (%)", "change (points)", "Sensitivity (%)", "Specificity (%)")
    note = (
        "95 % confidence intervals by bootstrap over patients; the change is on the same images. Sensitivity and "
        f"specificity are those of {POSITIVE_CLASS} against the rest."
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
            title, unit = KINDS[kind]
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
