"""The results of all strategies of a study, and the winner by the paper's rule (§2.5)."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from cxr_platform.domain.study import StudyRecord
from cxr_platform.evaluation.metrics import (
    Results,
    StrategyResult,
    difference,
    evaluate,
    folds_ahead,
    majority_accuracy,
    source_counts,
)
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.statistics.association import single_source

RULE = "the highest mean 7-class accuracy, then the highest mean specificity, compared to the printed digit (§2.5)"
RULE_ORDER = ("accuracy_7_class", "specificity")
PRINTED_DIGITS = 2


@dataclass(frozen=True)
class WinnerDecision:
    """The winner and the second by `RULE`; the margin is in points of mean 7-class accuracy.

    `decided_by` is a measure, or `"nothing"` for a tie or a single strategy. `tied` are all other strategies that the
    rule does not separate from the winner, in the paper's order.
    """

    winner: str
    runner_up: str | None
    margin_points: float | None
    decided_by: str
    folds_ahead: int | None
    tied: tuple[str, ...] = ()


@dataclass(frozen=True)
class KnownPatients:
    """The `images` of a source, or of all sources, and how many of them have a `known` patient."""

    images: int
    known: int

    @property
    def share(self) -> float:
        """Percentage of the images."""
        return 100.0 * self.known / self.images


@dataclass(frozen=True, eq=False)
class StudyResults:
    """`strategies` has the result per strategy, in the paper's order; `counts` the images by class, then source."""

    study: StudyRecord
    counts: Mapping[str, Mapping[str, int]]
    strategies: Results

    @property
    def images(self) -> int:
        """Images that every strategy was tested on."""
        return sum(n for by_source in self.counts.values() for n in by_source.values())

    @property
    def origin_counts(self) -> Mapping[str, Mapping[str, int]]:
        """Images by class, then origin: sources of one hospital or publication are added up."""
        counts: dict[str, Counter[str]] = {label: Counter() for label in self.counts}
        for label, by_source in self.counts.items():
            for source, images in by_source.items():
                counts[label][self.study.manifest.origin_of(source)] += images
        return counts

    @property
    def images_of_source(self) -> dict[str, int]:
        """Source → images, sorted by name."""
        images = Counter[str]()
        for by_source in self.counts.values():
            images.update(by_source)
        return dict(sorted(images.items()))

    @property
    def known_patients(self) -> dict[str, KnownPatients]:
        """Source → images whose patient is known."""
        known = self.study.manifest.known_patients
        return {source: KnownPatients(images, known.get(source, 0)) for source, images in self.images_of_source.items()}

    @property
    def all_known_patients(self) -> KnownPatients:
        """The images of all sources whose patient is known."""
        return KnownPatients(self.images, sum(part.known for part in self.known_patients.values()))

    @property
    def ranking(self) -> list[StrategyResult]:
        """Best first by `RULE`."""
        return ranking(self.strategies)

    @property
    def decision(self) -> WinnerDecision:
        """The winner and the second by `RULE`."""
        return decide(self.strategies)

    @property
    def best(self) -> StrategyResult:
        """The result of the winner."""
        return self.strategies[self.decision.winner]

    @property
    def majority_accuracy(self) -> float | None:
        """7-class accuracy, in percent, of always predicting the most frequent class."""
        return majority_accuracy(self.best.matrix)

    @property
    def only_source(self) -> str | None:
        """The source (or common origin) of all images, if there is only one."""
        sources = {source for by_source in self.origin_counts.values() for source in by_source}
        return sources.pop() if len(sources) == 1 else None

    @property
    def single_source(self) -> dict[str, str]:
        """Classes whose images all come from one origin, with that origin."""
        return single_source(self.origin_counts)


def compute_study_results(study: StudyRecord, predictions: Predictions) -> StudyResults:
    """Return the results of every strategy of `study`."""
    strategies = {name: evaluate(predictions, name) for name in study.strategies}
    return StudyResults(study, source_counts(predictions), strategies)


def ranking(strategies: Results) -> list[StrategyResult]:
    """Return results, best first by `RULE`; ties keep the paper's order, in which fewer trained layers come first."""
    return sorted(strategies.values(), key=_rule_values, reverse=True)


def decide(strategies: Results) -> WinnerDecision:
    """Return the winner among at least one strategy."""
    first, *others = ranking(strategies)
    if not others:
        return WinnerDecision(first.strategy, None, None, "nothing", None)
    second = others[0]
    values, second_values = _rule_values(first), _rule_values(second)
    decided_by = [name for name, a, b in zip(RULE_ORDER, values, second_values, strict=True) if a != b]
    return WinnerDecision(
        first.strategy,
        second.strategy,
        difference(first.mean.accuracy_7_class, second.mean.accuracy_7_class),
        decided_by[0] if decided_by else "nothing",
        folds_ahead(first, second),
        tuple(other.strategy for other in others if _rule_values(other) == values),
    )


def _rule_values(result: StrategyResult) -> list[float]:
    """The measures of `RULE`, rounded to the printed digit; undefined ones rank last."""
    measures = (result.mean[name] for name in RULE_ORDER)
    return [-1.0 if m is None else round(m, PRINTED_DIGITS) for m in measures]
