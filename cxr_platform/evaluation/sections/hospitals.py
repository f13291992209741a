"""Origin by origin: Covid19 of each ranked against the other images of each, with one left out of training."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.strategies import ROBUST
from cxr_platform.evaluation.finding_clauses import pair_text, worst_pair
from cxr_platform.evaluation.findings import SMALL, HospitalPair, RankedPair
from cxr_platform.evaluation.formatting import Value, count, joined, p_text, text
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections.shortcuts import sampled_sentence
from cxr_platform.evaluation.statistics.bootstrap import percentile_interval, study_seed
from cxr_platform.evaluation.statistics.hospitals import RankedPairs, ranked_pairs
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import POSITIVE_CLASS

NAME, TITLE = "hospitals", "Hospital by hospital"
ROBUST_PART = "hospitals_robust"
UNDEFINED = Interval(None, ratio=True)
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
    "AUC with its 95 % confidence interval by bootstrap over patients, the same for all pairs. Rows: images of the "
    "origin left out; columns: the origin of the images that they are ranked against. A dash: no images, or in the "
    "other row. Where row and column are the same origin, neither side was trained on."
)
ROBUST_METHOD = (
    "The head of `robust` was judged in the same way, with the settings of the study's profile: for each origin it was "
    "fitted again without that origin's images."
)
PAIRS_NOTE = (
    "p: of an AUC below 0.5, after Holm's correction over all pairs, as the worst of many is low by chance. Grey "
    f"italics: fewer than {SMALL} patients on one side, too few for a conclusion."
)


@dataclass(frozen=True)
class HospitalResults:
    """Pairs of origins by the whole-image classifier, and by heads of `robust` if the study has that strategy.

    `leading` are those that the first page repeats: of `robust` if it is the winner. `mean` and `robust_mean` are the
    mean AUCs of all pairs.
    """

    whole_image: tuple[HospitalPair, ...] = ()
    robust: tuple[HospitalPair, ...] = ()
    leading: tuple[HospitalPair, ...] = ()
    mean: Interval = UNDEFINED
    robust_mean: Interval = UNDEFINED


def compute(inputs: ReportInputs) -> HospitalResults:
    """Return every pair of origins of which one was left out; empty if nothing was computed."""
    seed = study_seed(inputs.study)
    frame, of_robust = (inputs.evidence.parts.get(name) for name in (NAME, ROBUST_PART))
    whole_image = None if frame is None else ranked_pairs(frame, seed)
    robust = None if of_robust is None else ranked_pairs(of_robust, seed, ROBUST)
    is_winner = inputs.results.decision.winner == ROBUST and robust is not None
    pairs, of_robust_pairs = (() if ranked is None else ranked.pairs for ranked in (whole_image, robust))
    leading = of_robust_pairs if is_winner else pairs
    return HospitalResults(pairs, of_robust_pairs, leading, _mean_auc(whole_image), _mean_auc(robust))


def render(inputs: ReportInputs, results: HospitalResults) -> Section:
    """Show the matrix of AUCs, with a warning for pairs that are ranked the wrong way round; then that of `robust`."""
    pairs, robust = results.whole_image, results.robust
    if not pairs:
        return Section(NAME, TITLE, absent=inputs.evidence.why_absent(NAME))
    lead = [
        _summary_sentence(pairs, results.mean),
        METHOD,
        *sampled_sentence(inputs),
        *not_left_out(inputs, {p.left_out for p in pairs}),
    ]
    if robust:
        lead += [ROBUST_METHOD, _summary_sentence(robust, results.robust_mean)]
    shown = [part for part in (pairs, robust) if part]
    return Section(
        NAME,
        TITLE,
        lead=tuple(lead),
        tables=tuple(_shown_matrix(part, inputs.synthetic) for part in shown),
        folded=tuple(_pairs_table(part, inputs.synthetic) for part in shown),
        warnings=tuple(warning for part in shown if (warning := _backwards_warning(part))),
        values={
            **_summary_values(pairs, results.mean),
            ROBUST: _summary_values(robust, results.robust_mean) if robust else None,
        },
    )


def _mean_auc(ranked: RankedPairs[HospitalPair] | None) -> Interval:
    return UNDEFINED if ranked is None else percentile_interval(*ranked.mean(), ratio=True)


def _summary_values(pairs: Sequence[HospitalPair], mean: Interval) -> dict[str, Any]:
    return {
        "mean_auc": asdict(mean),
        "worst": asdict(worst_pair(pairs)),
        "pairs": [pair_values(pair) for pair in pairs],
    }


def _backwards_warning(pairs: Sequence[HospitalPair]) -> str:
    backwards = [pair for pair in pairs if pair.reversed]
    if not backwards:
        return ""
    number = count(len(backwards), "pair is", "pairs are")
    by_robust = "By the head of robust, " * (backwards[0].strategy == ROBUST)
    names = joined([pair_text(pair) for pair in backwards])
    return f"{by_robust}{number} significantly ranked the wrong way round: {names}."


def _summary_sentence(pairs: Sequence[HospitalPair], mean: Interval) -> str:
    worst = worst_pair(pairs)
    few = f" (of those with {SMALL} patients or more on both sides)" * (
        any(pair.small for pair in pairs) and not worst.small
    )
    start = "By the head of robust, the mean" if worst.strategy == ROBUST else "The mean"
    return f"{start} of {count(len(pairs), 'AUC', 'AUCs')} is {text(mean)}. The worst{few} is {pair_text(worst)}."


def not_left_out(inputs: ReportInputs, tested: Collection[str]) -> list[str]:
    """Name origins that could not be left out: without them there is no Covid19, or nothing else, to train on."""
    present = {source for by_source in inputs.results.origin_counts.values() for source in by_source}
    missing = sorted(present - {*tested})
    reason = f"without it no {POSITIVE_CLASS}, or nothing else, is left to train on"
    return [f"Not left out, because {reason}: {joined(missing)}."] if missing else []


def _shown_matrix(pairs: Sequence[HospitalPair], synthetic: bool) -> Table:
    of_robust = pairs[0].strategy == ROBUST
    title = f"AUC of {POSITIVE_CLASS} with one origin left out of training{', head of robust' * of_robust}"
    return matrix("hospitals-by-robust" if of_robust else "hospitals", title, pairs, synthetic)


def matrix(name: str, title: str, pairs: Sequence[HospitalPair], synthetic: bool) -> Table:
    """Return the AUCs of the pairs: two rows for each origin left out, and a column for each origin."""
    cells = {(pair.left_out, pair.positive, pair.negative): pair.auc for pair in pairs}
    columns = tuple(sorted({origin for pair in pairs for origin in (pair.positive, pair.negative)}))
    rows = []
    for origin in sorted({pair.left_out for pair in pairs}):
        against: tuple[Value, ...] = tuple(cells.get((origin, origin, other)) for other in columns)
        reverse: tuple[Value, ...] = tuple(cells.get((origin, other, origin)) for other in columns)
        for what, values in ((POSITIVES, against), (NEGATIVES, reverse)):
            if any(value is not None for value in values):
                rows.append(Row((origin, what), values))
    return Table(name, title, ("Left out", "Ranked"), columns, tuple(rows), NOTE, synthetic)


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
    of_robust, headers = pairs[0].strategy == ROBUST, (f"{POSITIVE_CLASS} of", "Other images of")
    title = f"Pairs of origins, worst first{', head of robust' * of_robust}"
    return Table(
        "hospital-pairs-by-robust" if of_robust else "hospital-pairs",
        title,
        headers,
        columns,
        rows,
        PAIRS_NOTE,
        synthetic,
    )


def pair_values(pair: RankedPair) -> dict[str, Any]:
    """Return the values of a pair for results.json."""
    return {**asdict(pair), "reversed": pair.reversed}
