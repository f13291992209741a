"""Where the winner looks: the share of its heatmaps that lies in the lungs, and example heatmaps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.findings import LungShare
from cxr_platform.evaluation.formatting import count, percent, rate
from cxr_platform.evaluation.pictures import BLUE, INK, VERMILION, Picture, canvas, mark, to_png
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections.failures import confident_right
from cxr_platform.evaluation.sections.heatmap_tests import (
    CURVES,
    heatmap_curves,
    heatmap_sentences,
    heatmap_table,
    heatmap_tests,
    heatmap_values,
)
from cxr_platform.evaluation.sections.image_sheet import HOW_TO_READ, Panel, heatmap_of, image_sheet, side_by_side
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, study_seed
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import CLASSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME, TITLE = "explanations", "Where the network looks"
PART = "lung_share"
ALL = "All"
"""Key of the share over all classes."""
COLUMNS = 2

METHOD = (
    "Heatmaps are HiResCAM maps at three depths, multiplied, of the predicted class, by the network that was not "
    "trained on the image. On planted images, whose sign is known, they find it where Grad-CAM at the last convolution "
    "does not. The lungs are found by a small network that was trained on drawn images; they include what lies behind "
    "the heart."
)
LIMITS = (
    "A high share does not show that the network sees the disease: what distinguishes sources may lie over the lungs "
    "too. A low share alone is no proof either: a class that is recognised by what its images lack has no place to "
    "point to, and the same network with its last weights shuffled may have an equally low share. Read it together "
    "with the shortcut probes."
)
WARNING = (
    "The network looks at the lungs no more than a map spread evenly over the image would: much of what its answers "
    "rely on lies outside the lungs."
)


def compute(inputs: ReportInputs) -> LungShare | None:
    """Return the mean lung share over all explained images; `None` without heatmaps of the winner."""
    frame = _lung_shares(inputs)
    if frame is None or frame.empty:
        return None
    share, field = _shares_by_class(inputs, frame)[ALL], 100 * float(frame["field_share"].mean())
    return LungShare(inputs.results.decision.winner, len(frame), share, field, is_low(share, field))


def is_low(share: Interval, field_share: float) -> bool:
    """Return True if the share's upper bound is at most the lungs' share of the image, as for a uniform map."""
    return share.high is not None and share.high <= field_share


def render(inputs: ReportInputs, overall: LungShare | None) -> Section:
    """Show the lung share per class next to the lungs' share of the image, and example heatmaps."""
    frame = _lung_shares(inputs)
    if frame is None:
        return Section(NAME, TITLE, absent=inputs.evidence.why_absent(PART))
    if overall is None or frame.empty:
        return Section(NAME, TITLE, absent="No heatmap of the winner shows any place.")
    shares, empty = _shares_by_class(inputs, frame), len(_of_winner(inputs)) - len(frame)
    lead = [
        f"Over {overall.images:,} images, drawn evenly from the classes, {rate(overall.share)} of the heatmaps of "
        f"{TITLES[overall.strategy]} lies in the lungs, which cover {percent(overall.field_share)} of the image."
    ]
    if empty:
        lead.append(
            f"Not included: {count(empty, 'image', 'images')} with an empty heatmap, in which no place supports the "
            "answer."
        )
    low = [name for name, share in shares.items() if name != ALL and is_low(share, overall.field_share)]
    if low:
        listed = "; ".join(f"{name} {rate(shares[name])}" for name in low)
        lead.append(f"Not above the lungs' share of the image, even at the upper bound: {listed}.")
    tests, synthetic = heatmap_tests(inputs), inputs.synthetic
    lead += (
        heatmap_sentences(tests) if tests else [f"The heatmaps were not tested. {inputs.evidence.why_absent(CURVES)}"]
    )
    shown = [lung_share_plot(shares, overall, synthetic=synthetic)]
    tables = [_table(frame, shares, synthetic)]
    if tests:
        shown.append(heatmap_curves(tests, synthetic))
        tables.append(heatmap_table(tests, synthetic))
    return Section(
        NAME,
        TITLE,
        lead=(*lead, METHOD, LIMITS),
        pictures=(*shown, *_examples(inputs)),
        tables=tuple(tables),
        warnings=(WARNING,) if overall.low else (),
        values={
            "strategy": overall.strategy,
            "images": overall.images,
            "field_share": overall.field_share,
            "low": overall.low,
            "share": {name: [share.value, share.low, share.high] for name, share in shares.items()},
            "empty_heatmaps": empty,
            "tests": heatmap_values(tests) if tests else None,
        },
    )


def lung_share_plot(shares: dict[str, Interval], overall: LungShare, *, synthetic: bool) -> Picture:
    """Draw the lung share per class and over all, with a line at the lungs' share of the image."""
    names, field = list(shares), overall.field_share
    with canvas(0.42 * len(names) + 1.5, synthetic=synthetic) as (figure, axes):
        for line, name in enumerate(names):
            _draw_share(axes, line, shares[name], low=is_low(shares[name], field))
        axes.plot([field] * 2, [-0.65, len(names) - 0.5], color=INK, linestyle="--", linewidth=1.5)
        label = f"lungs' share of the image: {field:.1f} %"
        axes.text(field, -0.75, label, ha="center", va="bottom", fontsize=10, color=INK)
        axes.set(xlim=(0, 100), ylim=(len(names) - 0.5, -1.2), xlabel="Share of the heatmap in the lungs (%)")
        axes.set_yticks(range(len(names)), names)
        axes.spines[["top", "right"]].set_visible(False)
        png = to_png(figure)
    caption = (
        "Share of the heatmaps in the lungs, mean and 95 % confidence interval. Squares: not above the lungs' own "
        "share of the image."
    )
    listed = "; ".join(f"{name} {rate(share)}" for name, share in shares.items())
    alt = f"{mark(synthetic)}Lung share by class: {listed}. The lungs cover {percent(field)} of the image."
    return Picture("lung-share", caption, alt, png)


def _draw_share(axes: Axes, line: int, share: Interval, *, low: bool) -> None:
    if share.value is None:
        return
    colour = VERMILION if low else BLUE
    if share.low is not None and share.high is not None:
        axes.plot([share.low, share.high], [line, line], color=colour, linewidth=2)
    axes.plot(share.value, line, "s" if low else "o", color=colour, markersize=8)


def _of_winner(inputs: ReportInputs) -> pd.DataFrame:
    frame = inputs.evidence.parts[PART]
    return frame[frame["strategy"] == inputs.results.decision.winner]


def _lung_shares(inputs: ReportInputs) -> pd.DataFrame | None:
    """Return the winner's images whose heatmap is not empty; `None` if no heatmaps were computed."""
    if PART not in inputs.evidence.parts:
        return None
    frame = _of_winner(inputs)
    return frame[frame["share"].notna()]


def _shares_by_class(inputs: ReportInputs, frame: pd.DataFrame) -> dict[str, Interval]:
    """Return the mean share in percent of each class that has images, and of all images under `ALL`."""
    group_of = dict(zip(inputs.predictions.image_id, inputs.predictions.group_id, strict=True))
    bootstrap = Bootstrap(frame["image_id"].map(group_of).to_numpy(), seed=study_seed(inputs.study))
    shares, labels = frame["share"].to_numpy(), frame["label"].to_numpy()
    by_class = {label: bootstrap.rate(shares, labels == label) for label in CLASSES if (labels == label).any()}
    return {**by_class, ALL: bootstrap.rate(shares)}


def _table(frame: pd.DataFrame, shares: dict[str, Interval], synthetic: bool) -> Table:
    rows = []
    for name, share in shares.items():
        images = frame if name == ALL else frame[frame["label"] == name]
        field = 100 * float(images["field_share"].mean())
        rows.append(Row((name,), (len(images), share, field), "total" if name == ALL else ""))
    columns = ("images", "share in the lungs (%)", "lungs' share of the image (%)")
    note = (
        "Mean over images with its 95 % confidence interval by bootstrap over patients. Heat on the padding counts as "
        "outside the lungs."
    )
    return Table("lung-share", "Heatmaps in the lungs", ("Class",), columns, tuple(rows), note, synthetic)


def _examples(inputs: ReportInputs) -> list[Picture]:
    """Return a sheet of the most confident right answers of each class, image and heatmap; empty without images."""
    frame, strategy = inputs.evidence.parts.get("heatmaps"), inputs.results.decision.winner
    if inputs.images is None or frame is None:
        return []
    predictions = inputs.predictions
    maps = frame[frame["strategy"] == strategy].set_index("image_id")
    rows = [row for row in confident_right(predictions, strategy) if predictions.image_id[row] in maps.index]
    rows.sort(key=lambda row: predictions.label[row])
    if not rows:
        return []
    confidence = 100 * predictions.probability[strategy][rows].max(axis=1)
    images = inputs.images.pixels([str(i) for i in predictions.image_id[rows]])
    panels = [
        Panel(
            (f"{CLASSES[predictions.label[row]]}, {percent(float(confident))}", str(predictions.source[row])),
            side_by_side(image, heatmap_of(maps.loc[predictions.image_id[row]])),
        )
        for row, image, confident in zip(rows, images, confidence, strict=True)
    ]
    caption = (
        f"The most confident right answers, two per class: the image, and where its answer comes from. {HOW_TO_READ}"
    )
    listed = "; ".join(f"{panel.lines[0]}, source {panel.lines[1]}" for panel in panels)
    alt = f"{mark(inputs.synthetic)}Images with heatmaps of the right answer. {listed}."
    return [Picture("right-answers", caption, alt, image_sheet(panels, COLUMNS, synthetic=inputs.synthetic))]
