"""The classes of few sources among the other images of these sources, and the answers for contrast images."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.evaluation.finding_clauses import compared_text, within_text
from cxr_platform.evaluation.findings import SMALL, WithinSources
from cxr_platform.evaluation.formatting import count, joined
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.statistics.bootstrap import study_seed
from cxr_platform.evaluation.statistics.within_sources import rated_images, within_sources
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

NAME, TITLE = "within_sources", f"{POSITIVE_CLASS} within its own sources"
PART = "contrast"
SHOWN_FINDINGS = 12
ABSENT = f"No source has both {POSITIVE_CLASS} and other images, so that recognising the source is enough."

METHOD = (
    "Within one source, neither the device nor the format of the file nor the choice of patients gives the class away. "
    "The AUC compares each image of the class with the other images of its own source only."
)
NOTE = (
    "Shown are the classes that some origin does not have. Grey italics: fewer than "
    f"{SMALL} patients on one side, too few for a conclusion."
)
COMPARED_NOTE = (
    "The same images of the class against other images of their source, and against images of other origins in the "
    "same mix of classes. Other images whose class no other origin has, contrast images among them, are left out. "
    "Lower within: a figure is lower there and the two 95 % intervals do not overlap."
)
OUTSIDE_NOTE = (
    "Percent of the images that are given each class. None of the seven is their finding: a high share of "
    f"{POSITIVE_CLASS} shows that the network goes by the source, or takes similar diseases for {POSITIVE_CLASS}."
)


@dataclass(frozen=True)
class WithinResults:
    """Figures of each class that some source lacks, Covid19 first, and of each source of Covid19 alone.

    `answers` is (finding or source, images, share per class in percent) of contrast images.
    """

    classes: tuple[WithinSources, ...] = ()
    sources: tuple[WithinSources, ...] = ()
    answers: tuple[tuple[str, int, tuple[float, ...]], ...] = ()

    @property
    def leading(self) -> WithinSources | None:
        """The figures of Covid19, which the first page repeats."""
        return next((w for w in self.classes if w.label == POSITIVE_CLASS), None)


def compute(inputs: ReportInputs) -> WithinResults:
    """Return the winner's figures within the sources of each class."""
    winner, seed, contrast = inputs.results.decision.winner, study_seed(inputs.study), inputs.evidence.parts.get(PART)
    images = rated_images(inputs.predictions, winner, contrast, inputs.study.manifest.origins)
    all_origins = len(set(images.origin))
    partial = [
        label
        for position, label in enumerate(CLASSES)
        if label == POSITIVE_CLASS or len(set(images.origin[images.label == position])) < all_origins
    ]
    classes = [within for label in partial if (within := within_sources(images, label, seed)) is not None]
    covid = [within for within in classes if within.label == POSITIVE_CLASS]
    several = [source for within in covid if len(within.sources) > 1 for source in within.sources]
    parts = (within_sources(images, POSITIVE_CLASS, seed, [source]) for source in several)
    alone = [part for part in parts if part is not None]
    answers = () if contrast is None else _answers(contrast[contrast["strategy"] == winner])
    return WithinResults(tuple(sorted(classes, key=lambda w: w.label != POSITIVE_CLASS)), tuple(alone), answers)


def render(inputs: ReportInputs, results: WithinResults) -> Section:
    """Show Covid19 within its sources, with a warning if it does not stand out there."""
    leading, synthetic = results.leading, inputs.synthetic
    if leading is None and not results.classes:
        return Section(NAME, TITLE, absent=ABSENT)
    sentence = ABSENT if leading is None else _sentence(leading)
    warned = leading is None or leading.falls or not leading.shown
    tables = [_table("within-sources", "Classes among the other images of their sources", results.classes, synthetic)]
    if results.sources:
        tables.append(_table("within-each-source", f"{POSITIVE_CLASS} in each source", results.sources, synthetic))
    if compared := [within for within in (*results.classes, *results.sources) if within.compared]:
        tables.append(_compared_table(compared, synthetic))
    if results.answers:
        tables.append(_answers_table(results.answers, synthetic))
    return Section(
        NAME,
        TITLE,
        lead=(METHOD,) if warned else (sentence, METHOD),
        tables=tuple(tables),
        warnings=(sentence,) if warned else (),
        values={
            "classes": [_values(within) for within in results.classes],
            "sources": [_values(within) for within in results.sources],
            "contrast": [
                {"finding": name, "images": images, "answers": dict(zip(CLASSES, shares, strict=True))}
                for name, images, shares in results.answers
            ],
        },
    )


def _sentence(within: WithinSources) -> str:
    clause = within_text(within)
    contrast = ""
    if within.contrast:
        contrast = f" {count(within.contrast, 'of them is a contrast image', 'of them are contrast images')}."
    few = ""
    if within.small and not within.falls:
        few = f" That is fewer than {SMALL} patients on one side: no more than a hint."
    compared = compared_text(within) or "no other origin has images of these classes to compare with"
    return f"{clause[:1].upper()}{clause[1:]}, {compared}.{contrast}{_conclusion(within)}{few}"


def _conclusion(within: WithinSources) -> str:
    if within.falls:
        return " The figures are lower where the source does not help."
    if not within.shown:
        return " It is not shown that the class is recognised where the source does not help."
    return ""


def _table(name: str, title: str, parts: Sequence[WithinSources], synthetic: bool) -> Table:
    rows = []
    for w in parts:
        others = f"{w.others:,}, {w.contrast:,} contrast" if w.contrast else w.others
        rows.append(Row((w.label, joined(w.sources)), (w.images, others, w.auc, w.specificity), "small" * w.small))
    columns = ("images", "other images", "AUC", "specificity (%)")
    return Table(name, title, ("Class", "Sources"), columns, tuple(rows), NOTE, synthetic)


def _compared_table(parts: Sequence[WithinSources], synthetic: bool) -> Table:
    rows = []
    for w in parts:
        figures = (w.auc_compared, w.auc_elsewhere, w.specificity_compared, w.specificity_elsewhere)
        rows.append(Row((w.label, joined(w.sources)), (w.compared, *figures, "yes" if w.falls else "no")))
    columns = ("other images", "AUC", "other origins", "specificity (%)", "other origins (%)", "lower within")
    title = "The same classes within the source and from other origins"
    return Table("within-compared", title, ("Class", "Sources"), columns, tuple(rows), COMPARED_NOTE, synthetic)


def _answers(contrast: pd.DataFrame) -> tuple[tuple[str, int, tuple[float, ...]], ...]:
    """Return the shares of the answers over all contrast images, then by finding, most frequent first."""
    answer = contrast[list(PROBABILITY_COLUMNS)].to_numpy().argmax(axis=1)
    findings = contrast["finding"].fillna("unknown").astype(str)
    parts = [("all contrast images", np.ones(len(contrast), dtype=bool))]
    parts += [(name, (findings == name).to_numpy()) for name in findings.value_counts().index[:SHOWN_FINDINGS]]
    shares = []
    for name, members in parts:
        if members.any():
            counted = np.bincount(answer[members], minlength=len(CLASSES))
            shares.append((name, int(members.sum()), tuple(float(100 * n / members.sum()) for n in counted)))
    return tuple(shares)


def _answers_table(answers: Sequence[tuple[str, int, tuple[float, ...]]], synthetic: bool) -> Table:
    rows = tuple(
        Row((name,), (images, *shares), "total" if n == 0 else "small" * (images < SMALL))
        for n, (name, images, shares) in enumerate(answers)
    )
    title = "Answers for contrast images, whose finding is none of the seven classes"
    return Table("contrast", title, ("Finding",), ("images", *CLASSES), rows, OUTSIDE_NOTE, synthetic)


def _values(within: WithinSources) -> dict[str, Any]:
    return {**asdict(within), "shown": within.shown}
