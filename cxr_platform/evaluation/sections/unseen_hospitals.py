"""All strategies at hospitals that their networks never saw: a study with the protocol `origins` beside this one."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.strategies import TITLES, ordered
from cxr_platform.evaluation.finding_clauses import pair_text, worst_pair
from cxr_platform.evaluation.findings import SMALL, HospitalPair, UnseenImages
from cxr_platform.evaluation.formatting import bounds, count, joined, rate, text
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs, settings_that_differ
from cxr_platform.evaluation.sections.hospitals import matrix, not_left_out, pair_values
from cxr_platform.evaluation.statistics.bootstrap import study_seed
from cxr_platform.evaluation.statistics.unseen_hospitals import UnseenHospitals, unseen_hospitals
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import POSITIVE_CLASS

NAME, TITLE = "unseen_hospitals", "Every strategy at hospitals it never saw"

ABSENT = (
    "No strategy was trained with a hospital left out. With Covid19 and other classes from several hospitals, make "
    "study PROTOCOL=origins trains each of them once without each, and this report shows it when it is written again."
)
METHOD = (
    "Each strategy was trained once without each origin, a hospital or a publication: on the images of the others but "
    "those of one fold. Its images and that fold are ranked by the same network. Every figure but the AUCs is of the "
    "images left out, by the most probable class. Without an origin there are also fewer images to train on, which "
    "counts as part of the change. Collections of cases from the web are no hospitals, and two of them may share "
    "images of one publication."
)
NOTE = (
    f"AUC: {POSITIVE_CLASS} of each origin against the other images of each, one of the two left out of training; mean "
    f"of the pairs with {SMALL} patients or more on both sides, if there are any, the worst of these, and how many "
    "pairs are significantly ranked the wrong way round (after Holm's correction over all pairs of a strategy). "
    f"Sensitivity, specificity and accuracy in percent: images of the origins left out ({POSITIVE_CLASS} for the first "
    "two; the accuracy is of images whose class other origins have). Change: that accuracy minus the one of the same "
    "images in the folds of the study itself, in points. Intervals over patients; they do not include the variation "
    "between hospitals or training runs."
)
BY_ORIGIN_NOTE = (
    "Percent of the images whose class other origins have. An origin with many images decides the figures over all "
    "images left out: read both tables."
)
COLUMNS = (
    "mean AUC",
    "minus that of the best strategy",
    "worst AUC",
    "wrong way round",
    "sensitivity",
    "specificity",
    "7-class accuracy",
    "change",
)


@dataclass(frozen=True)
class UnseenResults:
    """Figures of each strategy, the winner first.

    `leading` and `finding` are the winner's pairs and accuracy, which the first page repeats: not if these networks
    were trained with other settings than those of the study.
    """

    strategies: tuple[UnseenHospitals, ...] = ()
    leading: tuple[HospitalPair, ...] = ()
    finding: UnseenImages | None = None


def compute(inputs: ReportInputs) -> UnseenResults:
    """Return the figures of each strategy; empty without a study with the protocol origins."""
    if inputs.origins is None:
        return UnseenResults()
    winner, frame = inputs.results.decision.winner, inputs.origins[1]
    found = unseen_hospitals(frame, inputs.predictions, inputs.results.origin_counts, winner, study_seed(inputs.study))
    names = sorted(ordered(found), key=lambda name: name != winner)
    strategies = tuple(found[name] for name in names)
    if winner not in found or _differences(inputs):
        return UnseenResults(strategies)
    first = strategies[0]
    return UnseenResults(strategies, first.pairs, UnseenImages(first.images, first.accuracy, first.change, first.mean))


def render(inputs: ReportInputs, results: UnseenResults) -> Section:
    """Show the table of strategies, with a matrix of origins for each behind a disclosure."""
    if inputs.origins is None or not results.strategies:
        return Section(NAME, TITLE, absent=ABSENT)
    first, left_out = results.strategies[0], inputs.origins[0].left_out
    return Section(
        NAME,
        TITLE,
        lead=(
            _sentence(first),
            f"Left out in turn: {joined(left_out)}. {METHOD}",
            *not_left_out(inputs, left_out),
        ),
        tables=(_table(inputs, results.strategies), _by_origin_table(inputs, results.strategies)),
        folded=tuple(
            matrix(
                f"unseen-hospitals-{found.strategy}",
                f"AUC of {POSITIVE_CLASS} with one origin left out of training: {TITLES[found.strategy]}",
                found.pairs,
                inputs.synthetic,
            )
            for found in results.strategies
            if found.pairs
        ),
        warnings=_differences(inputs),
        values={found.strategy: _values(found) for found in results.strategies},
    )


def _sentence(found: UnseenHospitals) -> str:
    accuracy = (
        f"{TITLES[found.strategy]} gives the right one of seven classes to {rate(found.accuracy)} of "
        f"{count(found.images, 'image', 'images')} of hospitals that it never saw, of classes that other hospitals "
        f"have too{_change_clause(found.change)}."
    )
    if not found.pairs:
        return accuracy
    counted = sum(not pair.small for pair in found.pairs) or len(found.pairs)
    pairs, worst = count(counted, "pair", "pairs"), pair_text(worst_pair(found.pairs))
    return f"{accuracy} Its mean AUC over {pairs} of origins is {text(found.mean)}; the worst is {worst}."


def _change_clause(change: Interval) -> str:
    if change.value is None:
        return ""
    if round(change.value, 2) == 0:
        return ", as many as in the study's own folds"
    interval = "" if change.low is None else f" ({bounds(change)})"
    more = "more" if change.value > 0 else "less"
    return f", {text(abs(change.value))} points {more}{interval} than in the study's own folds"


def _differences(inputs: ReportInputs) -> tuple[str, ...]:
    """Return a warning if the networks were trained with other settings than those of this study."""
    assert inputs.origins is not None
    names = [name for name in settings_that_differ(inputs.study, inputs.origins[0]) if name != "folds"]
    if not names:
        return ()
    return (f"These networks were trained with other settings than those of this study: {joined(names)}.",)


def _table(inputs: ReportInputs, strategies: Sequence[UnseenHospitals]) -> Table:
    rows = []
    for found in strategies:
        worst = worst_pair(found.pairs).auc if found.pairs else None
        wrong = f"{sum(pair.reversed for pair in found.pairs)} of {len(found.pairs)}"
        values = (found.mean, found.difference, worst, wrong, found.sensitivity, found.specificity, found.accuracy)
        kind = "winner" * (found.strategy == inputs.results.decision.winner)
        rows.append(Row((TITLES[found.strategy],), (*values, found.change), kind))
    title = "Each strategy at hospitals that its networks never saw"
    return Table("unseen-hospitals", title, ("Strategy",), COLUMNS, tuple(rows), NOTE, inputs.synthetic)


def _by_origin_table(inputs: ReportInputs, strategies: Sequence[UnseenHospitals]) -> Table:
    origins = tuple(strategies[0].by_origin)
    rows = tuple(
        Row(
            (TITLES[found.strategy],),
            tuple(found.by_origin[origin] for origin in origins),
            "winner" * (found.strategy == inputs.results.decision.winner),
        )
        for found in strategies
    )
    title = "7-class accuracy on the images of each origin left out (%)"
    return Table("unseen-hospitals-by-origin", title, ("Strategy",), origins, rows, BY_ORIGIN_NOTE, inputs.synthetic)


def _values(found: UnseenHospitals) -> dict[str, Any]:
    values = {name: value for name, value in asdict(found).items() if name not in ("strategy", "pairs")}
    values["worst"] = asdict(worst_pair(found.pairs)) if found.pairs else None
    return {**values, "pairs": [pair_values(pair) for pair in found.pairs]}
