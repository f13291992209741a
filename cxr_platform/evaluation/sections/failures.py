"""The winner's most confident mistakes, with heatmaps of the wrong answers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.formatting import count, percent
from cxr_platform.evaluation.pictures import Picture, mark
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections.image_sheet import HOW_TO_READ, Panel, heatmap_of, image_sheet, side_by_side
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import CLASSES

NAME, TITLE = "failures", "Most confident mistakes"
MISTAKES, MISTAKES_PER_PAIR = 24, 3  # shown at most, in all and per pair of actual and predicted class
RIGHT_PER_CLASS = 2  # for `sections.explanations`
PER_PICTURE, COLUMNS = 8, 2  # panels of one picture, and columns of panels


@dataclass(frozen=True)
class Mistake:
    """An image that the winner answered wrongly; `confidence` is the probability of the answer, in percent."""

    image_id: str
    actual: str
    predicted: str
    confidence: float
    source: str


@dataclass(frozen=True)
class Mistakes:
    """The mistakes to show, most confident first; the strategy made `wrong` mistakes on `images` images."""

    strategy: str
    shown: tuple[Mistake, ...]
    wrong: int
    images: int


def compute(inputs: ReportInputs) -> Mistakes:
    """Return the winner's most confident mistakes."""
    winner, predictions = inputs.results.decision.winner, inputs.predictions
    probability = predictions.probability[winner]
    predicted = probability.argmax(axis=1)
    shown = tuple(
        Mistake(
            str(predictions.image_id[row]),
            CLASSES[predictions.label[row]],
            CLASSES[predicted[row]],
            100 * float(probability[row].max()),
            str(predictions.source[row]),
        )
        for row in confident_mistakes(predictions, winner)
    )
    return Mistakes(winner, shown, int((predicted != predictions.label).sum()), len(predictions.label))


def render(inputs: ReportInputs, mistakes: Mistakes) -> Section:
    """Return a table of the mistakes, and their images if the manifest was given; absent without a mistake."""
    if not mistakes.shown:
        return Section(NAME, TITLE, absent=f"No mistakes: all {mistakes.images:,} images were classified correctly.")
    lead = [
        f"{TITLES[mistakes.strategy]} was wrong on {mistakes.wrong:,} of {count(mistakes.images, 'image', 'images')}. "
        f"Shown are the {len(mistakes.shown)} most confident mistakes, one per patient and at most {MISTAKES_PER_PAIR} "
        "per pair of actual and predicted class. A label may be wrong too: the images have not been read again."
    ]
    if inputs.images is None:
        lead.append("The images are not shown, because they are in the manifest, which was not given.")
    elif "heatmaps" not in inputs.evidence.parts:
        lead.append(f"No heatmaps: {inputs.evidence.why_absent('heatmaps')}")
    rows = [
        Row((str(rank), m.image_id), (m.actual, m.predicted, m.confidence, m.source))
        for rank, m in enumerate(mistakes.shown, start=1)
    ]
    columns = ("actual", "predicted", "confidence (%)", "source")
    table = Table("mistakes", TITLE, ("Rank", "Image"), columns, tuple(rows), synthetic=inputs.synthetic)
    return Section(
        NAME,
        TITLE,
        lead=tuple(lead),
        pictures=_pictures(inputs, mistakes),
        folded=(table,),
        values={"wrong": mistakes.wrong, "images": mistakes.images, "shown": [m.image_id for m in mistakes.shown]},
    )


def confident_mistakes(
    predictions: Predictions, strategy: str, count: int = MISTAKES, per_pair: int = MISTAKES_PER_PAIR
) -> NDArray[np.int64]:
    """Return the rows of `predictions` that `strategy` got wrong, most confident first.

    At most `count` in all, at most `per_pair` of each pair of actual and predicted class, and one per patient.
    """
    probability = predictions.probability[strategy]
    predicted = probability.argmax(axis=1)
    wrong = np.flatnonzero(predicted != predictions.label)
    order = wrong[np.argsort(-probability[wrong].max(axis=1), kind="stable")]
    pairs = [(predictions.label[row], predicted[row]) for row in order]
    return _first_rows(order, pairs, predictions.group_id[order], per_pair)[:count]


def confident_right(predictions: Predictions, strategy: str, per_class: int = RIGHT_PER_CLASS) -> NDArray[np.int64]:
    """Return the rows that `strategy` got right, most confident first: `per_class` of each class, one per patient."""
    probability = predictions.probability[strategy]
    right = np.flatnonzero(probability.argmax(axis=1) == predictions.label)
    order = right[np.argsort(-probability[right].max(axis=1), kind="stable")]
    return _first_rows(order, list(predictions.label[order]), predictions.group_id[order], per_class)


def _first_rows(
    rows: NDArray[np.int64], kinds: Sequence[object], groups: NDArray[np.object_], per_kind: int
) -> NDArray[np.int64]:
    """Return the first `per_kind` of `rows` of each kind, at most one per group; `kinds` and `groups` are per row."""
    kept_of_kind: dict[object, int] = {}
    kept_groups: set[object] = set()
    kept = []
    for row, kind, group in zip(rows, kinds, groups, strict=True):
        if kept_of_kind.get(kind, 0) < per_kind and group not in kept_groups:
            kept_of_kind[kind] = kept_of_kind.get(kind, 0) + 1
            kept_groups.add(group)
            kept.append(row)
    return np.array(kept, dtype=int)


def _pictures(inputs: ReportInputs, mistakes: Mistakes) -> tuple[Picture, ...]:
    """Return sheets of `PER_PICTURE` mistakes, each image next to its heatmap."""
    if inputs.images is None or "heatmaps" not in inputs.evidence.parts:
        return ()
    frame = inputs.evidence.parts["heatmaps"]
    maps = frame[frame["strategy"] == mistakes.strategy].set_index("image_id")
    ranked = [(rank, m) for rank, m in enumerate(mistakes.shown, start=1) if m.image_id in maps.index]
    images = inputs.images.pixels([m.image_id for _, m in ranked])
    panels = [
        Panel(
            (f"{rank}. {m.actual}", f"predicted {m.predicted}, {percent(m.confidence)}", m.source),
            side_by_side(image, heatmap_of(maps.loc[m.image_id])),  # type: ignore[arg-type]
        )
        for (rank, m), image in zip(ranked, images, strict=True)
    ]
    pictures: list[Picture] = []
    for start in range(0, len(ranked), PER_PICTURE):
        on_sheet = ranked[start : start + PER_PICTURE]
        first, last = on_sheet[0][0], on_sheet[-1][0]
        listed = "; ".join(
            f"{rank}. {m.actual} predicted as {m.predicted} with {percent(m.confidence)}, source {m.source}"
            for rank, m in on_sheet
        )
        pictures.append(
            Picture(
                f"mistakes-{len(pictures) + 1}",
                f"Mistakes {first} to {last}: the image, and where its wrong answer comes from. {HOW_TO_READ}",
                f"{mark(inputs.synthetic)}Images with heatmaps of the wrong answer. {listed}.",
                image_sheet(panels[start : start + PER_PICTURE], COLUMNS, synthetic=inputs.synthetic),
            )
        )
    return tuple(pictures)
