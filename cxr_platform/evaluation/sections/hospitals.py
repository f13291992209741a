"""Hospital by hospital: Covid19 of each origin ranked against the other images of each origin, with one left out."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.credibility import pair_text, worst_pair
from cxr_platform.evaluation.findings import SMALL, HospitalPair
from cxr_platform.evaluation.formatting import Value, count, joined, text
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, study_seed
from cxr_platform.evaluation.statistics.measures import paired_auc
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import POSITIVE_CLASS

NAME, TITLE = "hospitals", "Hospital by hospital"
SCORE = f"p_{POSITIVE_CLASS}"
POSITIVES, NEGATIVES = f"{POSITIVE_CLASS} against others of", f"others against {POSITIVE_CLASS} of"
"""Rows of the matrix: which images of the origin left out are ranked."""

METHOD = (
    "A classifier like that of the whole-image probe was trained without any image of one hospital or publication, and "
    f"ranks its images against those of all others by the probability of {POSITIVE_CLASS}; images of the others are "
    "out-of-fold. An AUC of 0.5 is chance; below it, images of another class are ranked higher than "
    f"{POSITIVE_CLASS}, as a classifier does that goes by the hospital."
)
NOTE = (
    "AUC with its 95 % confidence interval by bootstrap over patients. Rows: images of the hospital left out; columns: "
    "the hospital of the images that they are ranked against. A dash: no images, or in the other row. Where row and "
    "column are the same hospital, neither side was trained on."
)


def compute(inputs: ReportInputs) -> tuple[HospitalPair, ...]:
    """Return every pair of origins of which one was left out; empty if nothing was computed."""
    frame = inputs.evidence.parts.get(NAME)
    if frame is None:
        return ()
    seed = study_seed(inputs.study)
    return tuple(pair for origin, rows in frame.groupby("left_out") for pair in _pairs(str(origin), rows, seed))


def _pairs(left_out: str, rows: pd.DataFrame, seed: int) -> Iterator[HospitalPair]:
    source, positive = rows["source"].to_numpy(object), (rows["label"] == POSITIVE_CLASS).to_numpy()
    group, scores = rows["group_id"].to_numpy(object), rows[SCORE].to_numpy(dtype=float)
    for origin in sorted(set(source)):
        for first, second in dict.fromkeys([(left_out, origin), (origin, left_out)]):
            members = (positive & (source == first)) | (~positive & (source == second))
            is_positive = positive[members]
            if is_positive.all() or not is_positive.any():
                continue
            bootstrap, together = Bootstrap(group[members], seed=seed), np.zeros(len(is_positive))
            auc = paired_auc(scores[members], is_positive, ~is_positive, together, bootstrap)
            yield HospitalPair(first, second, left_out, int(is_positive.sum()), int((~is_positive).sum()), auc)


def render(inputs: ReportInputs, pairs: Sequence[HospitalPair]) -> Section:
    """Show the matrix of AUCs, with a warning for pairs that are ranked the wrong way round."""
    if not pairs:
        return Section(NAME, TITLE, absent=inputs.evidence.why_absent(NAME))
    backwards = [pair for pair in pairs if pair.reversed]
    warning = ""
    if backwards:
        number = count(len(backwards), "pair is", "pairs are")
        warning = f"{number} ranked the wrong way round: {joined([pair_text(pair) for pair in backwards])}."
    return Section(
        NAME,
        TITLE,
        lead=(_summary_sentence(pairs), METHOD, *_impossible_sentence(inputs, pairs)),
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
    few = f" (of those with {SMALL} images or more on both sides)" * (
        any(pair.small for pair in pairs) and not worst.small
    )
    return f"The mean of {count(len(pairs), 'AUC', 'AUCs')} is {mean}. The worst{few} is {pair_text(worst)}."


def _impossible_sentence(inputs: ReportInputs, pairs: Sequence[HospitalPair]) -> list[str]:
    """Name origins that could not be left out: without them there is no Covid19, or nothing else, to train on."""
    tested = {pair.left_out for pair in pairs}
    present = {source for by_source in inputs.results.origin_counts.values() for source in by_source}
    missing = sorted(present - tested)
    return (
        [f"Not left out, because the others have too few classes without them: {joined(missing)}."] if missing else []
    )


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
    title = f"AUC of {POSITIVE_CLASS} with one hospital left out of training"
    return Table("hospitals", title, ("Left out", "Ranked"), columns, tuple(rows), NOTE, synthetic)


def _pairs_table(pairs: Sequence[HospitalPair], synthetic: bool) -> Table:
    ordered = sorted(pairs, key=lambda pair: pair.auc.value or 0)
    rows = tuple(
        Row(
            (pair.positive, pair.negative),
            (pair.left_out, pair.images, pair.others, pair.auc),
            "small" * pair.small,
        )
        for pair in ordered
    )
    columns = ("left out", POSITIVE_CLASS, "other images", "AUC")
    title, headers = "Pairs of hospitals, worst first", (f"{POSITIVE_CLASS} of", "Other images of")
    return Table("hospital-pairs", title, headers, columns, rows, "", synthetic)


def _values(pair: HospitalPair) -> dict[str, Any]:
    return {**asdict(pair), "reversed": pair.reversed}
