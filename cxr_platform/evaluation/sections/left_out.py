"""Leave one source out: recall of a class on images of a source that was not in the training set.

The classifier is that of the whole-image probe (a logistic regression on frozen features), fitted without the source
and without the groups of its images. Its recall stands next to that of the same images in the probe's
cross-validation, where other images of their source were trained on.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.findings import ExternalFinding
from cxr_platform.evaluation.formatting import count, rate, shortened
from cxr_platform.evaluation.pictures import Picture
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections.rate_bars import Labels, paired_bars, rate_bars
from cxr_platform.evaluation.sections.shortcuts import sampled_sentence
from cxr_platform.evaluation.statistics.bootstrap import study_seed
from cxr_platform.evaluation.statistics.external import ScoredImages, ensemble_images, external_finding, interval_values
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import CLASSES

NAME, TITLE = "left_out", "A source left out of training"
PROBE = "whole-image"

METHOD = (
    "A classifier like that of the whole-image probe was trained without any image of a source and tested on the "
    "classes of that source. The reference is the recall of the same images in the probe's cross-validation, where "
    "other images of their source were trained on. A class that only the missing source has is not learnt at all, "
    "which can raise the recall of another class."
)
NOTE = (
    "Percent of the images that are assigned their class. Other training images: images of the class from other "
    "sources. Falls: the two intervals do not overlap."
)


def compute(inputs: ReportInputs) -> tuple[ExternalFinding, ...]:
    """Return the recall of each class on each of its sources; empty if nothing was computed."""
    frame, probes = inputs.evidence.parts.get(NAME), inputs.evidence.parts.get("pixel_probes")
    if frame is None:
        return ()
    seed, recalls = study_seed(inputs.study), []
    for (source, label), rows in frame.groupby(["source", "label"], sort=False):
        measure = ("recall", str(label))
        internal = Interval(None) if probes is None else _cross_validated(rows, probes).rate(*measure, seed)
        recall = external_finding((str(source), PROBE), measure, ensemble_images(rows), internal, seed)
        recalls.append(replace(recall, training_images=int(rows["trained_on"].iloc[0])))
    return tuple(sorted(recalls, key=lambda recall: CLASSES.index(recall.label)))


def render(inputs: ReportInputs, recalls: Sequence[ExternalFinding]) -> Section:
    """Show the recall with and without the source in training, and the classes for which that is not possible."""
    if not recalls:
        return Section(NAME, TITLE, absent=inputs.evidence.why_absent(NAME))
    fallen, lead = [r for r in recalls if r.contradicts], [METHOD, *sampled_sentence(inputs)]
    if not fallen:
        lead.append("No recall falls so far that the two intervals do not overlap.")
    if single := inputs.results.single_source:
        listed = ", ".join(f"{label} ({source})" for label, source in single.items())
        lead.append(f"Not possible for classes with a single source: {listed}.")
    return Section(
        NAME,
        TITLE,
        lead=tuple(lead),
        pictures=(_picture(recalls, inputs.synthetic),),
        tables=(_table(recalls, inputs.synthetic),),
        warnings=tuple(map(_fall_sentence, fallen)),
        values={"rates": [_values(r) for r in recalls], "impossible": dict(single)},
    )


def _cross_validated(rows: pd.DataFrame, probes: pd.DataFrame) -> ScoredImages:
    """Return the images of `rows` with the out-of-fold answers of the whole-image probe."""
    answers = probes[probes["probe"] == PROBE].set_index("image_id").loc[rows["image_id"]].reset_index()
    facts = rows[["image_id", "label", "group_id"]]
    return ensemble_images(answers.merge(facts, on="image_id", validate="one_to_one"))


def _fall_sentence(recall: ExternalFinding) -> str:
    sentence = (
        f"Without {recall.source} in training, {rate(recall.external)} of its {recall.images:,} {recall.label} images "
        f"are recognised; with it, {rate(recall.internal)}."
    )
    if recall.few_training_images:
        images = count(recall.training_images or 0, "image", "images")
        sentence += f" Only {images} of {recall.label} from other sources were left to train on."
    return sentence


def _table(recalls: Sequence[ExternalFinding], synthetic: bool) -> Table:
    rows = [
        Row(
            (r.label, r.source), (r.images, r.training_images, r.external, r.internal, "yes" if r.contradicts else "no")
        )
        for r in recalls
    ]
    columns = ("images", "other training images", "source left out (%)", "source trained on (%)", "falls")
    return Table("left-out", TITLE, ("Class", "Source"), columns, tuple(rows), NOTE, synthetic)


def _picture(recalls: Sequence[ExternalFinding], synthetic: bool) -> Picture:
    named = [(f"{r.label} without\n{shortened(r.source)}, n = {r.images:,}", r) for r in recalls]
    labels = Labels(
        "left-out",
        title="A source left out of training",
        axis="Images of the class recognised (%)",
        caption="Images of a class that are recognised if their source was left out of training and if it was not",
        alt="Pairs of bars, source left out and source trained on, in percent",
    )
    return rate_bars(paired_bars(named, "with it"), labels, chance=None, synthetic=synthetic)


def _values(recall: ExternalFinding) -> dict[str, Any]:
    return {
        "label": recall.label,
        "source": recall.source,
        "images": recall.images,
        "trained_on": recall.training_images,
        "left_out": interval_values(recall.external),
        "trained": interval_values(recall.internal),
        "falls": recall.contradicts,
    }
