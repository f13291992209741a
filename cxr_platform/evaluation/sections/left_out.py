"""Leave one source out: is a class recognised on images of a source of which no image was trained on?

The recipe is that of the whole-image probe (a logistic regression on frozen features), fitted without the source and
without the groups of its images; beside it the recall of the very same images in the probe's cross-validation, where
other images of their source were trained on.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.findings import ExternalFinding
from cxr_platform.evaluation.formatting import count, rate, shortened
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections.rate_bars import Bar, Words, rate_bars
from cxr_platform.evaluation.statistics.bootstrap import study_seed
from cxr_platform.evaluation.statistics.external import ScoredImages, ensemble_images, external_finding, interval_values
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import CLASSES

if TYPE_CHECKING:
    import pandas as pd

    from cxr_platform.evaluation.pictures import Picture

NAME, TITLE = "left_out", "A source left out of training"
RECIPE = "whole-image"


def find(inputs: ReportInputs) -> tuple[ExternalFinding, ...]:
    """Recall of each class on each of its sources; empty where nothing was computed."""
    frame, probes = inputs.evidence.parts.get(NAME), inputs.evidence.parts.get("pixel_probes")
    if frame is None:
        return ()
    seed, trained = study_seed(inputs.study), _trained_on(frame)
    found = []
    for (source, label), rows in frame.groupby(["source", "label"], sort=False):
        key = ("recall", str(label))
        internal = Interval(None) if probes is None else _same_images(rows, probes).rate(*key, seed)
        one = external_finding((str(source), RECIPE), key, ensemble_images(rows), internal, seed)
        found.append(replace(one, training_images=trained[str(source), str(label)]))
    return tuple(sorted(found, key=lambda f: CLASSES.index(f.label)))


def section(inputs: ReportInputs, found: tuple[ExternalFinding, ...]) -> Section:
    """Recall with and without the source in training; the classes for which it is not possible."""
    if not found:
        return Section(NAME, TITLE, absent=inputs.evidence.why_absent(NAME))
    worse = [f for f in found if f.contradicts]
    return Section(
        NAME,
        TITLE,
        lead=(*_lead(worse), *_impossible(inputs)),
        pictures=(_picture(found, inputs.synthetic),),
        tables=(_table(found, inputs.synthetic),),
        warnings=tuple(map(_sentence, worse)),
        values={"rates": _values(found), "impossible": dict(inputs.results.single_source)},
    )


def _same_images(rows: "pd.DataFrame", probes: "pd.DataFrame") -> ScoredImages:
    """The images of `rows` as the whole-image probe's cross-validation judged them."""
    judged = probes[probes["probe"] == RECIPE].set_index("image_id").loc[rows["image_id"]].reset_index()
    facts = rows[["image_id", "label", "group_id"]]
    return ensemble_images(judged.merge(facts, on="image_id", validate="one_to_one"))


def _trained_on(frame: "pd.DataFrame") -> dict[tuple[str, str], int]:
    """(source, class) → images of the class from other sources that were there to learn from."""
    return {(str(s), str(c)): int(n) for (s, c), n in frame.groupby(["source", "label"])["trained_on"].first().items()}  # type: ignore[misc, has-type]


def _lead(worse: Sequence[ExternalFinding]) -> list[str]:
    start = (
        "The recipe of the whole-image probe was fitted without any image of a source and asked for the classes of that "
        "source; beside it the same images in its cross-validation, where their source was trained on. A class that "
        "only the missing source has is not learnt at all then, so that a recall can also rise."
    )
    if worse:
        return [start]
    return [start, "No recall falls so far that the two intervals do not overlap."]


def _sentence(found: ExternalFinding) -> str:
    fell = (
        f"Without {found.source} in training, {rate(found.external)} of its {found.images:,} {found.label} images are "
    )
    fell += f"recognised; with it {rate(found.internal)}."
    if found.few_training_images:
        left = count(found.training_images or 0, "image", "images")
        fell += f" Only {left} of {found.label} from elsewhere were left to learn from."
    return fell


def _impossible(inputs: ReportInputs) -> list[str]:
    single = inputs.results.single_source
    if not single:
        return []
    told = ", ".join(f"{label} ({source})" for label, source in single.items())
    return [f"Not possible for classes with a single source: {told}."]


def _table(found: Sequence[ExternalFinding], synthetic: bool) -> Table:
    rows = []
    for f in found:
        values = (f.images, f.training_images, f.external, f.internal, "yes" if f.contradicts else "no")
        rows.append(Row((f.label, f.source), values))
    columns = ("images", "others to learn from", "source left out (%)", "source trained on (%)", "falls")
    note = (
        "Percent of the images that are given their class. Others to learn from: images of the class from other sources. "
        "Falls: the two intervals do not overlap."
    )
    return Table("left-out", TITLE, ("Class", "Source"), columns, tuple(rows), note, synthetic)


def _picture(found: Sequence[ExternalFinding], synthetic: bool) -> "Picture":
    bars = []
    for f in found:
        name = f"{f.label} without\n{shortened(f.source)}, n = {f.images:,}"
        bars.append(Bar(name, f.external, "alarm" if f.contradicts else "plain"))
        bars.append(Bar("with it", f.internal, "control"))
    words = Words(
        "left-out",
        "A source left out of training",
        "Images of the class recognised (%)",
        "Images of a class that are recognised when their source was left out of training and when it was not",
        "Pairs of bars, source left out and source trained on, in percent",
    )
    return rate_bars(bars, words, chance=None, synthetic=synthetic)


def _values(found: Sequence[ExternalFinding]) -> list[dict[str, Any]]:
    return [
        {
            "label": f.label,
            "source": f.source,
            "images": f.images,
            "trained_on": f.training_images,
            "left_out": interval_values(f.external),
            "trained": interval_values(f.internal),
            "falls": f.contradicts,
        }
        for f in found
    ]
