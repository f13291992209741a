"""Origin by origin: Covid19 of each ranked against the other images of each, with one left out of training."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.finding_clauses import pair_text, worst_pair
from cxr_platform.evaluation.findings import SMALL, HospitalPair
from cxr_platform.evaluation.formatting import Value, count, joined, p_text, text
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections.shortcuts import sampled_sentence
from cxr_platform.evaluation.statistics.bootstrap import study_seed
from cxr_platform.evaluation.statistics.hospitals import hospital_pairs
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import POSITIVE_CLASS

NAME, TITLE = "hospitals", "Hospital by hospital"
POSITIVES, NEGATIVES = f"{POSITIVE_CLASS} against others of", f"others against {POSITIVE_CLASS} of"
"""Rows of the matrix: which images of the origin left out are ranked."""

METHOD = (
    "Classifiers like that of the whole-image probe were trained without any image of one origin, a hospital or a "
    "publication, and each ranks images of it against images of all others, none of which it was trained on, by the "
    f"probability of {POSITIVE_CLASS}. An AUC of 0.5 is chance; below it, images of another class are ranked higher "
    f"than {POSITIVE_CLASS}, as a classifier does that goes by the origin. Collections of cases from the web are no "
    "hospitals, and two of them may share images of one publication. Intervals are over patients and do not include "
    "the variation between hospitals. In the benchmark robust, another measure, both origins of a pair are left out."
)
NOTE = (
    "AUC with its 95 % confidence interval by bootstrap over patients, for each pair by itself. Rows: images of the "
    "origin left out; columns: the origin of the images that they are ranked against. A dash: no images, or in the "
    "other row. Where row and column are the same origin, neither side was trained on."
)
PAIRS_NOTE = (
    "p: of an AUC below 0.5, after Holm's correction over all pairs, as the worst of many is low by chance. Grey "
    f"italics: fewer than {SMALL} patients on one side, too few for a conclusion."
)


def compute(inputs: ReportInputs) -> tuple[HospitalPair, ...]:
    """Return every pair of origins of which one was left out; empty if nothing was computed."""
    frame = inputs.evidence.parts.get(NAME)
    return () if frame is None else hospital_pairs(frame, study_seed(inputs.study))


def render(inputs: ReportInputs, pairs: Sequence[HospitalPair]) -> Section:
    """Show the matrix of AUCs, with a warning for pairs that are ranked the wrong way round."""
    if not pairs:
        return Section(NAME, TITLE, absent=inputs.evidence.why_absent(NAME))
    backwards = [pair for pair in pairs if pair.reversed]
    warning = ""
    if backwards:
        number = count(len(backwards), "pair is", "pairs are")
        warning = (
            f"{number} significantly ranked the wrong way round: {joined([pair_text(pair) for pair in backwards])}."
        )
    return Section(
        NAME,
        TITLE,
        lead=(_summary_sentence(pairs), METHOD, *sampled_sentence(inputs), *_impossible_sentence(inputs, pairs)),
        tables=(_matrix(pairs, inputs.synthetic),),
        folded=(_pairs_table(pairs, inputs.synthetic),),
        warnings=(warning,) if warning else (),
        values={
            "mean_auc": mean_auc(pairs),
            "worst": asdict(worst_pair(pairs)),
            "pairs": [_values(pair) for pair in pairs],
        },
    )


def mean_auc(pairs: Sequence[HospitalPair]) -> float:
    """Return the mean AUC of the pairs, each counted once."""
    return float(np.mean([pair.auc.value for pair in pairs if pair.auc.value is not None]))


def _summary_sentence(pairs: Sequence[HospitalPair]) -> str:
    mean = text(Interval(mean_auc(pairs), ratio=True))
    worst = worst_pair(pairs)
    few = f" (of those with {SMALL} patients or more on both sides)" * (
        any(pair.small for pair in pairs) and not worst.small
    )
    return f"The mean of {count(len(pairs), 'AUC', 'AUCs')} is {mean}. The worst{few} is {pair_text(worst)}."


def _impossible_sentence(inputs: ReportInputs, pairs: Sequence[HospitalPair]) -> list[str]:
    """Name origins that could not be left out: without them there is no Covid19, or nothing else, to train on."""
    tested = {pair.left_out for pair in pairs}
    present = {source for by_source in inputs.results.origin_counts.values() for source in by_source}
    missing = sorted(present - tested)
    reason = f"without it no {POSITIVE_CLASS}, or nothing else, is left to train on"
    return [f"Not left out, because {reason}: {joined(missing)}."] if missing else []


def _matrix(pairs: Sequence[HospitalPair], synthetic: bool) -> Table:
    cells = {(pair.left_out, pair.positive, pair.negative): pair.auc for pair in pairs}
    columns = tuple(sorted({origin for pair in pairs for origin in (pair.positive, pair.negative)}))
    rows = []
    for origin in sorted({pair.left_out for pair in pairs}):
        against: tuple[Value, ...] = tuple(cells.get((origin, origin, other)) for other in columns)
        reverse: tuple[Value, ...] = tuple(cells.get((origin, other, origin)) for other in columns)
        for what, values in ((POSITIVES, against), (NEGATIVES, reverse)):
            if any(value is not None for value in values):
                rows.append(Row((origin, what), values))
    title = f"AUC of {POSITIVE_CLASS} with one origin left out of training"
    return Table("hospitals", title, ("Left out", "Ranked"), columns, tuple(rows), NOTE, synthetic)


def _pairs_table(pairs: Sequence[HospitalPair], synthetic: bool) -> Table:
    ordered = sorted(pairs, key=lambda pair: pair.auc.value or 0)
    rows = tuple(
        Row(
            (pair.positive, pair.negative),
            (pair.left_out, pair.images, pair.others, pair.auc, p_text(pair.p_reversed)),
            "small" * pair.small,
        )
        for pair in ordered
    )
    columns = ("left out", POSITIVE_CLASS, "other images", "AUC", "p")
    title, headers = "Pairs of origins, worst first", (f"{POSITIVE_CLASS} of", "Other images of")
    return Table("hospital-pairs", title, headers, columns, rows, PAIRS_NOTE, synthetic)


def _values(pair: HospitalPair) -> dict[str, Any]:
    return {**asdict(pair), "reversed": pair.reversed}
