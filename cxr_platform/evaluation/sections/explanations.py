"""How much of what the winner looks at lies in the lungs."""

from typing import TYPE_CHECKING

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.findings import LungShare
from cxr_platform.evaluation.formatting import count, percent, rate
from cxr_platform.evaluation.pictures import BLUE, INK, VERMILION, Picture, canvas, mark, to_png
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections.failures import confident_right
from cxr_platform.evaluation.sections.image_sheet import HOW_TO_READ, Panel, beside, heat_of, sheet
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, study_seed
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import CLASSES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NAME, TITLE = "explanations", "Where the network looks"
PART = "lung_share"
ALL = "All"
COLUMNS = 2


def find(inputs: ReportInputs) -> LungShare | None:
    """The mean lung share over all explained images; `None` where no heatmaps were computed."""
    frame = _frame(inputs)
    if frame is None:
        return None
    share, field = _shares(inputs, frame)[ALL], 100 * float(frame["field_share"].mean())
    return LungShare(inputs.results.decision.winner, len(frame), share, field, is_low(share, field))


def is_low(share: Interval, field_share: float) -> bool:
    """Whether even the upper bound is no more than the field's own share: what a map without preference would have."""
    return share.high is not None and share.high <= field_share


def section(inputs: ReportInputs, found: LungShare | None) -> Section:
    """Lung share a class beside the field's own share, and examples; absent where no heatmaps were computed."""
    frame = _frame(inputs)
    if found is None or frame is None:
        return Section(NAME, TITLE, absent=_why_absent(inputs))
    shares, empty = _shares(inputs, frame), len(_of_winner(inputs)) - len(frame)
    return Section(
        NAME,
        TITLE,
        lead=(_finding(found), *_empty(empty), *_classes(shares, found), WHAT_IT_IS, WHAT_IT_IS_NOT),
        pictures=(_chart(shares, found, synthetic=inputs.synthetic), *_examples(inputs, found.strategy)),
        tables=(_table(frame, shares, inputs.synthetic),),
        warnings=_warnings(found),
        values={**_values(shares, found), "empty_heatmaps": empty},
    )


WHAT_IT_IS = (
    "Heatmaps are by HiResCAM at three depths, multiplied, of the class that was predicted, by the network that has "
    "not seen the image. On planted images, whose sign is known, they find it where Grad-CAM at the last convolution "
    "does not. The lung field is one outline for all images, scaled to each: it holds 96 % of the lungs of drawn "
    "chests, and the heart and spine between them."
)
WHAT_IT_IS_NOT = (
    "A high share does not show that the disease is seen: what tells sources apart may lie over the lungs too. Nor is "
    "a low one a proof by itself: a class that is told by what its images lack has no place to point to, and the same "
    "network with its last weights shuffled may have as low a share. Read it together with the shortcut probes."
)


def _frame(inputs: ReportInputs) -> "pd.DataFrame | None":
    """The winner's images whose heatmap shows a place; `None` where there is none."""
    if PART not in inputs.evidence.parts:
        return None
    frame = _of_winner(inputs)
    known = frame[frame["share"].notna()]
    return known if len(known) else None


def _of_winner(inputs: ReportInputs) -> "pd.DataFrame":
    frame = inputs.evidence.parts[PART]
    return frame[frame["strategy"] == inputs.results.decision.winner]


def _why_absent(inputs: ReportInputs) -> str:
    if PART in inputs.evidence.parts:
        return "No heatmap of the winner shows any place."
    return inputs.evidence.why_absent(PART)


def _shares(inputs: ReportInputs, frame: "pd.DataFrame") -> dict[str, Interval]:
    """Mean share in percent of each class that has images, and of all."""
    scored = inputs.predictions
    group_of = dict(zip(scored.image_id, scored.group_id, strict=True))
    bootstrap = Bootstrap(frame["image_id"].map(group_of).to_numpy(), seed=study_seed(inputs.study))
    shares, labels = frame["share"].to_numpy(), frame["label"].to_numpy()
    found = {label: bootstrap.rate(shares, labels == label) for label in CLASSES if (labels == label).any()}
    return {**found, ALL: bootstrap.rate(shares)}


def _finding(found: LungShare) -> str:
    return (
        f"Over {found.images:,} images, drawn evenly from the classes, {rate(found.share)} of the heatmaps of "
        f"{TITLES[found.strategy]} lies in the lung field, which covers {percent(found.field_share)} of the image."
    )


def _empty(images: int) -> list[str]:
    if not images:
        return []
    return [
        f"Not among them: {count(images, 'image', 'images')} with an empty heatmap, where no place speaks for the answer."
    ]


def _classes(shares: dict[str, Interval], found: LungShare) -> list[str]:
    low = [name for name, share in shares.items() if name != ALL and is_low(share, found.field_share)]
    if not low:
        return []
    figures = "; ".join(f"{name} {rate(shares[name])}" for name in low)
    return [f"No more than that, even at the upper bound, have: {figures}."]


def _warnings(found: LungShare) -> tuple[str, ...]:
    if not found.low:
        return ()
    return (
        "The network looks at the lungs no more than a map spread evenly over the image would: much of what it answers "
        "from lies outside of them.",
    )


def _table(frame: "pd.DataFrame", shares: dict[str, Interval], synthetic: bool) -> Table:
    rows = []
    for name, share in shares.items():
        mine = frame if name == ALL else frame[frame["label"] == name]
        field = 100 * float(mine["field_share"].mean())
        rows.append(Row((name,), (len(mine), share, field), "total" if name == ALL else ""))
    columns = ("images", "share in the lung field (%)", "field's share of the image (%)")
    note = "Mean over images with its 95 % interval by bootstrap over patients. Heat on the padding counts as outside."
    return Table("lung-share", "Heatmaps in the lung field", ("Class",), columns, tuple(rows), note, synthetic)


def _chart(shares: dict[str, Interval], found: LungShare, *, synthetic: bool) -> Picture:
    names = list(shares)
    with canvas(0.42 * len(names) + 1.5, synthetic=synthetic) as (figure, axes):
        for y, name in enumerate(names):
            _draw(axes, y, shares[name], low=is_low(shares[name], found.field_share))
        axes.plot([found.field_share] * 2, [-0.65, len(names) - 0.5], color=INK, linestyle="--", linewidth=1.5)
        label = f"field's share of the image: {found.field_share:.1f} %"
        axes.text(found.field_share, -0.75, label, ha="center", va="bottom", fontsize=10, color=INK)
        axes.set(xlim=(0, 100), ylim=(len(names) - 0.5, -1.2), xlabel="share of the heatmap in the lung field (%)")
        axes.set_yticks(range(len(names)), names)
        axes.spines[["top", "right"]].set_visible(False)
        png = to_png(figure)
    told = "; ".join(f"{name} {rate(share)}" for name, share in shares.items())
    return Picture(
        "lung-share",
        "Share of the heatmaps in the lung field, mean and 95 % interval. Squares: no more than the field's own share.",
        f"{mark(synthetic)}Lung share by class: {told}. The field covers {percent(found.field_share)} of the image.",
        png,
    )


def _draw(axes: "Axes", y: int, share: Interval, *, low: bool) -> None:
    if share.value is None:
        return
    colour = VERMILION if low else BLUE
    if share.low is not None and share.high is not None:
        axes.plot([share.low, share.high], [y, y], color=colour, linewidth=2)
    axes.plot(share.value, y, "s" if low else "o", color=colour, markersize=8)


def _examples(inputs: ReportInputs, strategy: str) -> list[Picture]:
    """For each class two of the surest right answers, image and heatmap."""
    frame = inputs.evidence.parts.get("heatmaps")
    if inputs.images is None or frame is None:
        return []
    scored = inputs.predictions
    maps = frame[frame["strategy"] == strategy].set_index("image_id")
    rows = [row for row in confident_right(scored, strategy) if scored.image_id[row] in maps.index]
    rows.sort(key=lambda row: scored.label[row])
    if not rows:
        return []
    confidence = 100 * scored.probability[strategy][rows].max(axis=1)
    images = inputs.images.pixels([str(i) for i in scored.image_id[rows]])
    panels = [
        Panel(
            (f"{CLASSES[scored.label[row]]}, {percent(float(sure))}", str(scored.source[row])),
            beside(image, heat_of(maps.loc[scored.image_id[row]])),
        )
        for row, image, sure in zip(rows, images, confidence, strict=True)
    ]
    return [_example_picture(panels, inputs.synthetic)]


def _example_picture(panels: list[Panel], synthetic: bool) -> Picture:
    return Picture(
        "right-answers",
        f"The surest right answers, two a class: the image, and where its answer comes from. {HOW_TO_READ}",
        f"{mark(synthetic)}Images with heatmaps of the right answer. "
        + "; ".join(f"{panel.lines[0]}, source {panel.lines[1]}" for panel in panels)
        + ".",
        sheet(panels, COLUMNS, synthetic=synthetic),
    )


def _values(shares: dict[str, Interval], found: LungShare) -> dict[str, object]:
    return {
        "strategy": found.strategy,
        "images": found.images,
        "field_share": found.field_share,
        "low": found.low,
        "share": {name: [share.value, share.low, share.high] for name, share in shares.items()},
    }
