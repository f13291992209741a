"""Tables and sentences on images that were not trained on: answers by class, and pairs of sources."""

from collections.abc import Sequence

from cxr_platform.domain.strategies import ROBUST, TITLES
from cxr_platform.evaluation.finding_clauses import external_pair_text, worst_pair
from cxr_platform.evaluation.findings import SMALL, ClassAnswers, ExternalPair, OutsideFinding
from cxr_platform.evaluation.formatting import count, text
from cxr_platform.evaluation.statistics.external_pairs import ExternalPairs
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

CLASSES_NOTE = (
    "Percent of the images of the class, by the mean of the folds' networks. Right: as their class. In brackets: 95 % "
    "confidence intervals by bootstrap over patients."
)
PAIRS_NOTE = (
    f"AUC of {POSITIVE_CLASS} with its 95 % confidence interval by bootstrap over patients; images are ranked by the "
    "mean probability of the folds' networks, which were trained on none of them. 0.5 is chance; below it the other "
    f"images are ranked higher than {POSITIVE_CLASS}, as a network does that goes by the source. Sources of one origin "
    f"are one, under its name. Patients: of the side with fewer; an image of which the patient is not known is one. "
    "For mean and worst count the pairs of two sources, both of origins that the study was not trained on, with "
    f"{SMALL} patients or more on both sides, or all such pairs if none has as many. Intervals do not include the "
    "variation between hospitals or training runs."
)
PAIR_HEADERS = (f"{POSITIVE_CLASS} of", "Other images of", "Their class or finding")


def classes_table(answers: Sequence[ClassAnswers], title: str, *, synthetic: bool) -> Table:
    """Return a row for each source, class and strategy: how often it is called Covid19, and how often right.

    The column of the strategy is left out if there is only one.
    """
    several = len({a.strategy for a in answers}) > 1
    rows = []
    for a in sorted(answers, key=lambda a: (a.source, CLASSES.index(a.label))):
        right, covid = CLASSES.index(a.label), CLASSES.index(POSITIVE_CLASS)
        most = max(range(len(CLASSES)), key=lambda position: a.shares[position].value or 0.0)
        values = (a.shares[covid], a.internal[covid], a.shares[right], a.internal[right], CLASSES[most])
        rows.append(Row((a.source, a.label, a.strategy)[: 2 + several], (a.images, *values), "small" * a.small))
    columns = (
        "images",
        *(f"called {POSITIVE_CLASS} (%)", f"called {POSITIVE_CLASS} in cross-validation (%)"),
        *("called right (%)", "called right in cross-validation (%)", "most frequent answer"),
    )
    headers = ("Source", "Class", "Strategy")[: 2 + several]
    return Table("classes", title, headers, columns, tuple(rows), CLASSES_NOTE, synthetic)


def shares_table(answers: Sequence[ClassAnswers], outside: Sequence[OutsideFinding], *, synthetic: bool) -> Table:
    """Return the share called each class, a row for each strategy, source, and class or other finding."""
    rows = [
        Row((a.strategy, a.source, a.label), (a.images, a.groups, *a.shares)) for a in answers
    ] + [
        Row((f.strategy, f.source, f.finding or "all findings"), (f.images, f.groups, *f.shares)) for f in outside
    ]  # fmt: skip
    columns = ("images", "patients", *(f"called {label} (%)" for label in CLASSES))
    headers = ("Strategy", "Source", "Class or finding")
    return Table("shares", "Share called each class", headers, columns, tuple(rows), CLASSES_NOTE, synthetic)


def shown_pairs(found: Sequence[ExternalPairs], winner: str) -> list[ExternalPairs]:
    """Return the pairs of the winner and of `robust`, which a reader sees first."""
    return [pairs for pairs in found if pairs.strategy in (winner, ROBUST)]


def pairs_table(found: Sequence[ExternalPairs], title: str, *, synthetic: bool) -> Table:
    """Return a row for each pair with the AUC of each strategy, then the mean of the pairs that count."""
    first = found[0]
    rows = [
        Row(
            (pair.positive, pair.negative, pair.finding),
            (*(f.pairs[row].auc for f in found), pair.images, pair.others, pair.groups, _counts(pair, first)),
            "small" * pair.small,
        )
        for row, pair in enumerate(first.pairs)
    ]
    if first.counted:
        number = count(len(first.counted), "pair", "pairs")
        rows.append(Row(("mean", "", ""), (*(f.mean for f in found), None, None, None, number), "total"))
    columns = (*(f"AUC, {f.strategy}" for f in found), POSITIVE_CLASS, "other images", "patients", "counts")
    return Table("external-pairs", title, PAIR_HEADERS, columns, tuple(rows), PAIRS_NOTE, synthetic)


def pair_rows_table(found: Sequence[ExternalPairs], *, synthetic: bool) -> Table:
    """Return a row for each strategy and pair."""
    rows = [
        Row(
            (f.strategy, pair.positive, pair.negative, pair.finding),
            (pair.auc, pair.p_reversed, pair.images, pair.others, pair.groups, _counts(pair, f)),
        )
        for f in found
        for pair in f.pairs
    ]
    columns = ("AUC", "p of an AUC below 0.5", POSITIVE_CLASS, "other images", "patients", "counts")
    title = "Pairs of sources by strategy"
    return Table("external-pairs-all", title, ("Strategy", *PAIR_HEADERS), columns, tuple(rows), PAIRS_NOTE, synthetic)


def _counts(pair: ExternalPair, found: ExternalPairs) -> str:
    if pair in found.counted:
        return "yes"
    if pair.within:
        return "one source"
    return "studied origin" if pair.studied else "few patients"


def pairs_sentence(found: ExternalPairs) -> str:
    """Return the mean of a strategy's pairs that count, and the worst of them."""
    start = f"{TITLES[found.strategy]}: "
    if not found.counted:
        return f"{start}no mean, as no pair is of two sources that are both of origins new to the study."
    number = count(len(found.counted), "pair of two sources", "pairs of two sources")
    few = f", of which none has {SMALL} patients on both sides" * all(pair.small for pair in found.counted)
    against = f", {text(found.difference, signed=True)} against the winner's" * (found.difference.value is not None)
    wrong = sum(pair.reversed for pair in found.pairs)
    backwards = f" {count(wrong, 'pair is', 'pairs are')} significantly ranked the wrong way round." * bool(wrong)
    return (
        f"{start}mean AUC of {POSITIVE_CLASS} {text(found.mean)} over {number}{few}{against}; the worst is "
        f"{external_pair_text(worst_pair(found.counted))}.{backwards}"
    )
