"""The most confident mistakes of the winner, with what it looked at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.formatting import count, percent
from cxr_platform.evaluation.pictures import Picture, mark
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections.image_sheet import HOW_TO_READ, Panel, beside, heat_of, sheet
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import CLASSES

if TYPE_CHECKING:
    import numpy as np

NAME, TITLE = "failures", "Most confident mistakes"
MISTAKES, MISTAKES_A_PAIR = 24, 3
RIGHT_A_CLASS = 2
A_PICTURE, COLUMNS = 8, 2


@dataclass(frozen=True)
class Mistake:
    """An image that the winner answered wrongly; `confidence` is the probability of its answer, in percent."""

    image_id: str
    actual: str
    predicted: str
    confidence: float
    source: str


@dataclass(frozen=True)
class Found:
    """The mistakes that are shown, most confident first, out of `wrong` on `images` images."""

    strategy: str
    shown: tuple[Mistake, ...]
    wrong: int
    images: int


def find(inputs: ReportInputs) -> Found:
    """The winner's most confident mistakes."""
    winner, scored = inputs.results.decision.winner, inputs.predictions
    probability = scored.probability[winner]
    predicted = probability.argmax(axis=1)
    shown = [
        Mistake(
            str(scored.image_id[row]),
            CLASSES[scored.label[row]],
            CLASSES[predicted[row]],
            100 * float(probability[row].max()),
            str(scored.source[row]),
        )
        for row in confident_mistakes(scored, winner)
    ]
    return Found(winner, tuple(shown), int((predicted != scored.label).sum()), len(scored.label))


def section(inputs: ReportInputs, found: Found) -> Section:
    """A table of the mistakes, and where the images are at hand their pictures; absent where nothing was wrong."""
    if not found.shown:
        return Section(NAME, TITLE, absent=f"No mistake: all {found.images:,} images were answered right.")
    return Section(
        NAME,
        TITLE,
        lead=(_lead(found), *_why_no_pictures(inputs)),
        pictures=_pictures(inputs, found),
        folded=(_table(found, inputs.synthetic),),
        values={"wrong": found.wrong, "images": found.images, "shown": [m.image_id for m in found.shown]},
    )


def _lead(found: Found) -> str:
    return (
        f"{TITLES[found.strategy]} was wrong on {found.wrong:,} of {count(found.images, 'image', 'images')}. "
        f"Shown are the {len(found.shown)} of which it was surest, one a patient and at most {MISTAKES_A_PAIR} of the "
        "same actual and predicted class. A label may be wrong too: nobody has looked at these images again."
    )


def _why_no_pictures(inputs: ReportInputs) -> list[str]:
    if inputs.images is None:
        return ["The images themselves are in the manifest, which was not given."]
    reason = "" if "heatmaps" in inputs.evidence.parts else inputs.evidence.why_absent("heatmaps")
    return [f"No heatmaps: {reason}"] if reason else []


def _pictures(inputs: ReportInputs, found: Found) -> tuple[Picture, ...]:
    """Eight mistakes a picture, each image beside its heatmap."""
    if inputs.images is None or "heatmaps" not in inputs.evidence.parts:
        return ()
    frame = inputs.evidence.parts["heatmaps"]
    maps = frame[frame["strategy"] == found.strategy].set_index("image_id")
    ranked = [(rank, mistake) for rank, mistake in enumerate(found.shown, start=1) if mistake.image_id in maps.index]
    images = inputs.images.pixels([mistake.image_id for _, mistake in ranked])
    panels = [
        Panel(_lines(rank, mistake), beside(image, heat_of(maps.loc[mistake.image_id])))  # type: ignore[arg-type]
        for (rank, mistake), image in zip(ranked, images, strict=True)
    ]
    return tuple(
        _picture(panels[first : first + A_PICTURE], ranked[first : first + A_PICTURE], number, inputs.synthetic)
        for number, first in enumerate(range(0, len(ranked), A_PICTURE), start=1)
    )


def _picture(panels: Sequence[Panel], ranked: Sequence[tuple[int, Mistake]], number: int, synthetic: bool) -> Picture:
    told = "; ".join(
        f"{rank}. {m.actual} taken for {m.predicted} with {percent(m.confidence)}, source {m.source}"
        for rank, m in ranked
    )
    return Picture(
        f"mistakes-{number}",
        f"Mistakes {ranked[0][0]} to {ranked[-1][0]}: the image, and where its wrong answer comes from. {HOW_TO_READ}",
        f"{mark(synthetic)}Images with heatmaps of the wrong answer. {told}.",
        sheet(panels, COLUMNS, synthetic=synthetic),
    )


def _lines(rank: int, mistake: Mistake) -> tuple[str, ...]:
    return (
        f"{rank}. is {mistake.actual}",
        f"said {mistake.predicted}, {percent(mistake.confidence)}",
        mistake.source,
    )


def _table(found: Found, synthetic: bool) -> Table:
    rows = [
        Row((str(rank), m.image_id), (m.actual, m.predicted, m.confidence, m.source))
        for rank, m in enumerate(found.shown, start=1)
    ]
    columns = ("actual", "predicted", "confidence (%)", "source")
    return Table("mistakes", "Most confident mistakes", ("Rank", "Image"), columns, tuple(rows), synthetic=synthetic)


def confident_mistakes(
    predictions: Predictions, strategy: str, count: int = MISTAKES, a_pair: int = MISTAKES_A_PAIR
) -> "np.ndarray":
    """Rows of `predictions` that `strategy` got wrong, most confident first: `count` at most, `a_pair` of each pair of
    actual and predicted class, and one a patient."""
    import numpy as np

    probability = predictions.probability[strategy]
    predicted = probability.argmax(axis=1)
    wrong = np.flatnonzero(predicted != predictions.label)
    order = wrong[np.argsort(-probability[wrong].max(axis=1), kind="stable")]
    pairs = [(predictions.label[row], predicted[row]) for row in order]
    return _first(order, pairs, predictions.group_id[order], a_pair)[:count]


def confident_right(predictions: Predictions, strategy: str, a_class: int = RIGHT_A_CLASS) -> "np.ndarray":
    """Rows that `strategy` got right, most confident first: `a_class` of each class, one a patient."""
    import numpy as np

    probability = predictions.probability[strategy]
    right = np.flatnonzero(probability.argmax(axis=1) == predictions.label)
    order = right[np.argsort(-probability[right].max(axis=1), kind="stable")]
    return _first(order, list(predictions.label[order]), predictions.group_id[order], a_class)


def _first(rows: "np.ndarray", kinds: Sequence[object], groups: "np.ndarray", each: int) -> "np.ndarray":
    """The first `each` rows of every kind that are of groups not yet taken."""
    import numpy as np

    taken: dict[object, int] = {}
    seen: set[object] = set()
    kept = []
    for row, kind, group in zip(rows, kinds, groups, strict=True):
        if taken.get(kind, 0) < each and group not in seen:
            taken[kind] = taken.get(kind, 0) + 1
            seen.add(group)
            kept.append(row)
    return np.array(kept, dtype=int)
