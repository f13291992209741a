"""Every figure of every strategy with its interval, beside the spread over folds and the paper's figure."""

from collections.abc import Sequence
from dataclasses import asdict

from cxr_platform.domain.interval import REPLICATES, Interval
from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.formatting import rate
from cxr_platform.evaluation.metrics import MEASURES, difference
from cxr_platform.evaluation.paper import paper_metrics
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections.interval_plot import interval_plot
from cxr_platform.evaluation.statistics.bootstrap import study_bootstrap, study_seed
from cxr_platform.evaluation.statistics.measures import FIGURES_OF_MERIT, StrategyMeasures, strategy_measures
from cxr_platform.evaluation.table import Row, Table

NAME, TITLE = "intervals", "Every figure with its interval"
NOT_COVERED = (
    "The intervals say how far the choice of patients alone would move a figure. They do not cover that training again "
    "gives another network, nor that another hospital has other patients, other devices and other images."
)
NOTE = (
    "Pooled: every image counted once, with the 95 % interval by bootstrap over patients. Over folds: mean ± standard "
    "deviation (n − 1). Difference: pooled less the paper's figure, with the interval of ours; the paper gives none. "
    "A dash: not printed in the paper, or undefined. No parentheses: resampling never moves the figure, which then has "
    "no interval. Where all or none of the images of a rate are right, the interval is Clopper and Pearson's over the "
    "patients. ROC AUC and average precision rank the images of all folds together, each scored by the network of its "
    "own fold: networks that differ in how sure they are lower them a little."
)
PREDICTIVE_NOTE = (
    "From sensitivity and specificity by Bayes' rule at the prevalence stated. The study's own share is its makers' "
    "choice and no hospital's. Where sensitivity or specificity is 0 or 100 %, resampling never moves it, and the "
    "bounds are those that the bounds of both rates give."
)


def find(inputs: ReportInputs) -> tuple[StrategyMeasures, ...]:
    """The figures of every strategy, best first by the paper's rule: the winner's stand first."""
    bootstrap = study_bootstrap(inputs.study, inputs.predictions)
    return tuple(strategy_measures(inputs.predictions, r.strategy, bootstrap) for r in inputs.results.ranking)


def section(inputs: ReportInputs, found: Sequence[StrategyMeasures]) -> Section:
    """Picture of all accuracies, the winner's figures and predictive values; those of the others folded."""
    winner, synthetic = found[0], inputs.synthetic
    everything = (_figures("intervals", found, synthetic), _predictive("predictive-values", found, synthetic))
    return Section(
        NAME,
        TITLE,
        lead=(_method(inputs), NOT_COVERED, _worth(winner)),
        pictures=(interval_plot({m.strategy: m.pooled["accuracy_7_class"] for m in found}, synthetic=synthetic),),
        tables=(
            _figures("intervals-winner", [winner], synthetic),
            _predictive("predictive-values-winner", [winner], synthetic),
        ),
        folded=everything if len(found) > 1 else (),
        values={m.strategy: {k: v for k, v in asdict(m).items() if k != "strategy"} for m in found},
    )


def _method(inputs: ReportInputs) -> str:
    predictions = inputs.predictions
    groups = len(set(predictions.group_id))
    return (
        f"Every figure counts each of the {len(predictions.image_id):,} images once. Its 95 % interval in parentheses "
        f"comes from {REPLICATES:,} bootstrap replicates (seed {study_seed(inputs.study)}) of {groups:,} groups: the "
        "images of one patient, their duplicates and near-duplicates are drawn together, because they are alike."
    )


def _worth(winner: StrategyMeasures) -> str:
    at = next(p for p in winner.predictive if p.prevalence == 0.05)
    if None in (winner.pooled["sensitivity"].value, winner.pooled["specificity"].value):
        return "Without images of both kinds, Covid19 and others, the worth of a call is undefined."
    if at.ppv.value is None:
        return "No image is called Covid19, so that the worth of such a call is undefined."
    return (
        f"Where 5 % of patients have Covid19, {rate(at.ppv)} of the images that {TITLES[winner.strategy].lower()} "
        f"calls Covid19 would be of such patients, and {rate(at.npv)} of the others would be of patients without it: "
        "if sensitivity and specificity were the same there."
    )


def _figures(name: str, found: Sequence[StrategyMeasures], synthetic: bool) -> Table:
    rows = [_figure_row(measures, measure) for measures in found for measure in FIGURES_OF_MERIT]
    columns = ("pooled (95 % interval)", "over folds", "paper", "difference to the paper")
    return Table(name, _title("Figures", found), ("Strategy", "Measure"), columns, tuple(rows), NOTE, synthetic)


def _figure_row(measures: StrategyMeasures, measure: str) -> Row:
    shown, pooled = FIGURES_OF_MERIT[measure], measures.pooled[measure]
    printed = paper_metrics(measures.strategy)[measure] if measure in MEASURES else None
    labels = (TITLES[measures.strategy], shown.title if shown.ratio else f"{shown.title} (%)")
    return Row(labels, (pooled, measures.spread[measure], printed, _beside(pooled, printed)))


def _beside(pooled: Interval, printed: float | None) -> Interval | None:
    if printed is None:
        return None
    value, low, high = (difference(v, printed) for v in (pooled.value, pooled.low, pooled.high))
    return Interval(value, low, high, signed=True)


def _predictive(name: str, found: Sequence[StrategyMeasures], synthetic: bool) -> Table:
    rows = []
    for measures in found:
        for at in measures.predictive:
            own = ", the study's own share" if at.own else ""
            labels = (TITLES[measures.strategy], f"{100 * at.prevalence:.{2 if at.own else 0}f} %{own}")
            rows.append(Row(labels, (at.ppv, at.npv)))
    title, columns = _title("What a call is worth", found), ("PPV (%)", "NPV (%)")
    return Table(name, title, ("Strategy", "Prevalence"), columns, tuple(rows), PREDICTIVE_NOTE, synthetic)


def _title(what: str, found: Sequence[StrategyMeasures]) -> str:
    return f"{what}, {TITLES[found[0].strategy].lower() if len(found) == 1 else 'all strategies'}"
