"""Everything that a report says of one study, computed once from its predictions."""

from collections.abc import Mapping
from dataclasses import dataclass

from cxr_platform.evaluation.metrics import StrategyResult, evaluate, majority_accuracy, source_counts
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.ranking import Verdict, ranking, verdict
from cxr_platform.evaluation.statistics.association import single_source
from cxr_platform.evaluation.study import Study


@dataclass(frozen=True, eq=False)
class Outcome:
    """`results` by strategy, in the paper's order; `counts` are images by class, then source."""

    study: Study
    counts: Mapping[str, Mapping[str, int]]
    results: Mapping[str, StrategyResult]

    @property
    def images(self) -> int:
        """Images that every strategy was tested on."""
        return sum(n for by_source in self.counts.values() for n in by_source.values())

    @property
    def ranking(self) -> list[StrategyResult]:
        """Best first by the paper's rule."""
        return ranking(self.results)

    @property
    def verdict(self) -> Verdict:
        """The winner and the second by the paper's rule."""
        return verdict(self.results)

    @property
    def best(self) -> StrategyResult:
        """The winner's figures."""
        return self.results[self.verdict.winner]

    @property
    def majority_accuracy(self) -> float | None:
        """7-class accuracy, in percent, of always answering the most frequent class."""
        return majority_accuracy(self.best.matrix)

    @property
    def only_source(self) -> str | None:
        """The source of all images, where there is only one."""
        sources = {source for by_source in self.counts.values() for source in by_source}
        return sources.pop() if len(sources) == 1 else None

    @property
    def single_source(self) -> dict[str, str]:
        """Classes whose images all come from one source, with that source."""
        return single_source(self.counts)


def study_outcome(study: Study, predictions: Predictions) -> Outcome:
    """Compute the figures of every strategy of `study`."""
    results = {name: evaluate(predictions, name) for name in study.strategies}
    return Outcome(study, source_counts(predictions), results)
