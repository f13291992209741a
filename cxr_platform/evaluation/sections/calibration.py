"""Whether the networks are as sure as they are right, and from which Covid19 probability on to call an image Covid19."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.findings import OVERCONFIDENT, CalibrationFinding
from cxr_platform.evaluation.formatting import text
from cxr_platform.evaluation.pictures import Picture
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections.operating_points import operating_lead, operating_tables
from cxr_platform.evaluation.sections.reliability_plot import LEGEND, reliability_plot
from cxr_platform.evaluation.statistics.bootstrap import study_bootstrap
from cxr_platform.evaluation.statistics.calibration import (
    Calibration,
    Reliability,
    calibrate,
    cross_scaled,
    reliability,
)
from cxr_platform.evaluation.statistics.thresholds import ThresholdPerformance, cross_fitted_thresholds
from cxr_platform.evaluation.table import Row, Table

NAME, TITLE = "calibration", "Is it as sure as it is right?"
COLUMNS = ("temperature", "ECE", "Brier score", "log loss")
COVID_COLUMNS = ("ECE", "Brier score")
NOTE = (
    "ECE, expected calibration error: the distance between stated probability and how often it came true, in ten bins "
    "of equal width, averaged over images; 0 is best. Chance alone makes it larger, the more so the fewer images there "
    "are, and near 0 its interval is too short. Brier score: squared distance from the truth, 0 to 2 for seven "
    "classes, 0 to 1 for Covid19 alone. Log loss in nats. Temperature: mean over folds, and their range."
)
METHOD = (
    "Temperature scaling divides the network's logits by one number (Guo et al. 2017). That of each fold was fitted on "
    "the images of the other folds, so that no image judges a number that it helped to choose. It changes how sure the "
    "network says it is, and never which class is the likeliest."
)


@dataclass(frozen=True)
class Found:
    """`strategies` best first; bins and operating points are the winner's."""

    strategies: tuple[Calibration, ...]
    before: Reliability
    after: Reliability
    points: tuple[ThresholdPerformance, ...]

    @property
    def finding(self) -> CalibrationFinding:
        """That of the winner."""
        first = self.strategies[0]
        return CalibrationFinding(first.strategy, first.temperature, first.before.top_ece, first.after.top_ece)


def find(inputs: ReportInputs) -> Found:
    """Calibration of every strategy; reliability and operating points of the winner."""
    predictions, winner = inputs.predictions, inputs.results.decision.winner
    bootstrap = study_bootstrap(inputs.study, predictions)
    _, scaled = cross_scaled(predictions, winner)
    return Found(
        tuple(calibrate(predictions, r.strategy, bootstrap) for r in inputs.results.ranking),
        reliability(predictions.label, predictions.probability[winner], bootstrap),
        reliability(predictions.label, scaled, bootstrap),
        cross_fitted_thresholds(predictions, winner, bootstrap),
    )


def section(inputs: ReportInputs, found: Found) -> Section:
    """Reliability diagrams and operating points of the winner, calibration of all."""
    likeliest = inputs.results.best.pooled
    shown, folded = operating_tables(found.points, likeliest, inputs.synthetic)
    return Section(
        NAME,
        TITLE,
        lead=(_verdict(found.strategies[0]), METHOD, operating_lead(found.points)),
        pictures=_pictures(found, inputs.synthetic),
        tables=(*_tables(found.strategies, inputs.synthetic), shown),
        folded=(folded,),
        values={
            "strategies": {c.strategy: {**asdict(c), "temperature": c.temperature} for c in found.strategies},
            "reliability": {"before": asdict(found.before), "after": asdict(found.after)},
            "operating_points": [asdict(point) for point in found.points],
        },
    )


def _verdict(winner: Calibration) -> str:
    shown, t = TITLES[winner.strategy], winner.temperature
    before, after = winner.before.top_ece, winner.after.top_ece
    sure = "surer than" if t > OVERCONFIDENT else "less sure than" if t < 1 / OVERCONFIDENT else "about as sure as"
    return (
        f"{shown} is {sure} it is right: temperature {text(t)} (1 changes nothing), expected calibration error "
        f"{text(before)} as trained and {text(after)} after scaling."
    )


def _pictures(found: Found, synthetic: bool) -> tuple[Picture, ...]:
    shown = TITLES[found.strategies[0].strategy]
    return (
        reliability_plot(
            "reliability-likeliest-class",
            f"{shown}: likeliest class",
            "of the likeliest class",
            found.before.top,
            found.after.top,
            synthetic=synthetic,
        ),
        reliability_plot(
            "reliability-covid19",
            f"{shown}: Covid19",
            "of Covid19",
            found.before.covid,
            found.after.covid,
            synthetic=synthetic,
        ),
    )


def _tables(found: Sequence[Calibration], synthetic: bool) -> tuple[Table, Table]:
    """Of the likeliest class, and of Covid19 alone; each strategy as trained and after scaling."""
    likeliest, covid = [], []
    for strategy in found:
        before, after, spread = strategy.before, strategy.after, strategy.temperatures
        scaled = f"{text(strategy.temperature)} ({text(min(spread))} to {text(max(spread))})"
        for kind, temperature, quality in ((LEGEND[0], None, before), (LEGEND[1], scaled, after)):
            labels = (TITLES[strategy.strategy], kind)
            likeliest.append(Row(labels, (temperature, quality.top_ece, quality.brier, quality.log_loss)))
            covid.append(Row(labels, (quality.covid_ece, quality.covid_brier)))
    titles = ("Strategy", "Probabilities")
    return (
        Table("calibration", "Calibration", titles, COLUMNS, tuple(likeliest), NOTE, synthetic),
        Table("calibration-covid19", "Calibration for Covid19", titles, COVID_COLUMNS, tuple(covid), "", synthetic),
    )
