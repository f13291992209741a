"""All measures of every strategy: confidence intervals, spread over folds, and the paper's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cxr_platform.domain.interval import REPLICATES, Interval
from cxr_platform.domain.strategies import TITLES, compared_with_paper
from cxr_platform.evaluation.formatting import rate, text
from cxr_platform.evaluation.metrics import MEASURES, difference
from cxr_platform.evaluation.paper import paper_metrics
from cxr_platform.evaluation.pictures import BLUE, GREY, VERMILION, Picture, canvas, mark, to_png
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections.gate_table import gate_table
from cxr_platform.evaluation.statistics.bootstrap import study_bootstrap, study_seed
from cxr_platform.evaluation.statistics.measures import FIGURES_OF_MERIT, StrategyMeasures, strategy_measures
from cxr_platform.evaluation.table import Row, Table

NAME, TITLE = "intervals", "All measures with confidence intervals"
SHIFT = 0.16
"""How far a strategy's two marks stand above and below its line."""

LIMITS = (
    "The intervals show how much the choice of patients alone would move a figure. They do not cover that training "
    "again gives another network, or that another hospital has other patients, devices and images."
)
MEASURES_NOTE = (
    "Pooled: each image counted once, with the 95 % confidence interval by bootstrap over patients. Over folds: mean ± "
    "standard deviation (n − 1). Difference: pooled minus the paper's figure, with the interval of ours; the paper "
    "gives none. A dash: not printed in the paper, or undefined. No parentheses: resampling never moves the figure, so "
    "that it has no interval. If all or none of the images of a rate are right, the interval is Clopper and Pearson's "
    "over the patients. ROC AUC and average precision rank the images of all folds together, each scored by the "
    "network of its own fold; networks that differ in their confidence lower them a little."
)
PREDICTIVE_NOTE = (
    "From sensitivity and specificity by Bayes' rule at the stated prevalence. The study's own share of Covid19 images "
    "was chosen by its authors and is no hospital's prevalence. If sensitivity or specificity is 0 or 100 %, "
    "resampling never moves it, and the bounds follow from the bounds of both rates."
)


def compute(inputs: ReportInputs) -> tuple[StrategyMeasures, ...]:
    """Return the measures of every strategy, best strategy first."""
    bootstrap = study_bootstrap(inputs.study, inputs.predictions)
    return tuple(strategy_measures(inputs.predictions, r.strategy, bootstrap) for r in inputs.results.ranking)


def render(inputs: ReportInputs, measures: Sequence[StrategyMeasures]) -> Section:
    """Show the accuracies of all strategies, and the winner's measures and predictive values; the others are folded."""
    winner, synthetic = measures[0], inputs.synthetic
    all_strategies = (
        _measures_table("intervals", measures, synthetic),
        _predictive_table("predictive-values", measures, synthetic),
    )
    gate = gate_table(inputs.predictions, study_bootstrap(inputs.study, inputs.predictions), synthetic)
    return Section(
        NAME,
        TITLE,
        lead=(_method(inputs), LIMITS, _predictive_sentence(winner)),
        pictures=(interval_plot({m.strategy: m.pooled["accuracy_7_class"] for m in measures}, synthetic=synthetic),),
        tables=(
            _measures_table("intervals-winner", [winner], synthetic),
            _predictive_table("predictive-values-winner", [winner], synthetic),
            *([gate] if gate else []),
        ),
        folded=all_strategies if len(measures) > 1 else (),
        values={m.strategy: {k: v for k, v in asdict(m).items() if k != "strategy"} for m in measures},
    )


def interval_plot(accuracy: Mapping[str, Interval], *, synthetic: bool) -> Picture:
    """Draw a dot with its interval for each strategy in `accuracy`, and a diamond for the paper's figure."""
    look: dict[str, Any] = {"fmt": "o", "markersize": 5, "elinewidth": 2, "capsize": 5, "capthick": 2, "color": BLUE}
    rows = compared_with_paper(accuracy)
    printed = [paper_metrics(name).accuracy_7_class for name in rows]
    drawn = [v for interval in accuracy.values() for v in (interval.value, interval.low)]
    least = min(v for v in (*drawn, *printed) if v is not None)
    with canvas(2.0 + 0.55 * len(rows), synthetic=synthetic) as (figure, axes):
        for line, name in enumerate(rows):
            interval = accuracy.get(name, Interval(None))
            if (value := interval.value) is None:
                across = axes.get_yaxis_transform()  # x from 0 to 1, wherever the axis starts
                axes.text(0.01, line - SHIFT, "not run", va="center", color=GREY, style="italic", transform=across)
                continue
            low, high = (value if bound is None else bound for bound in (interval.low, interval.high))
            axes.errorbar([value], [line - SHIFT], xerr=[[value - low], [high - value]], **look)
        places = [line + SHIFT for line in range(len(rows))]
        xs = [float("nan") if v is None else v for v in printed]
        axes.plot(xs, places, "D", color=VERMILION, markerfacecolor="white", markersize=7, label="paper")
        axes.errorbar([], [], xerr=[], **look, label="this study, 95 % confidence interval")
        axes.set_yticks(range(len(rows)), [TITLES[name] for name in rows])
        axes.set(xlim=(10 * (least // 10), 100))  # from 0, the intervals would be too narrow to be seen
        axes.set(xlabel="7-class accuracy (% of images)", ylim=(len(rows) - 0.45, -0.55))
        axes.set_title("7-class accuracy with intervals", loc="left", pad=10)
        axes.grid(axis="x", color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=10.5)
        png = to_png(figure)
    caption = (
        "7-class accuracy over all images with its 95 % confidence interval by bootstrap over patients. Diamonds mark "
        "the paper's figures, which have no interval."
    )
    parts = (
        f"{TITLES[name]} {text(accuracy[name]) if name in accuracy else 'not run'}, paper {text(paper)}"
        for name, paper in zip(rows, printed, strict=True)
    )
    alt = f"{mark(synthetic)}Dots with intervals: 7-class accuracy in percent. {'; '.join(parts)}."
    return Picture("intervals", caption, alt, png)


def _method(inputs: ReportInputs) -> str:
    predictions = inputs.predictions
    return (
        f"Every figure counts each of the {len(predictions.image_id):,} images once. Its 95 % confidence interval, in "
        f"parentheses, comes from {REPLICATES:,} bootstrap replicates (seed {study_seed(inputs.study)}) of "
        f"{len(set(predictions.group_id)):,} groups: the images of one patient, their duplicates and near-duplicates "
        "are drawn together, because they are alike."
    )


def _predictive_sentence(winner: StrategyMeasures) -> str:
    """State the predictive values at a prevalence of 5 %."""
    at = next(p for p in winner.predictive if p.prevalence == 0.05)
    if None in (winner.pooled["sensitivity"].value, winner.pooled["specificity"].value):
        return "Predictive values are undefined without both Covid19 images and others."
    if at.ppv.value is None:
        return "No image is called Covid19, so that the positive predictive value is undefined."
    return (
        f"If 5 % of patients had Covid19, {rate(at.ppv)} of the images that {TITLES[winner.strategy].lower()} calls "
        f"Covid19 would be of such patients, and {rate(at.npv)} of the other images would be of patients without it, "
        "provided that sensitivity and specificity were the same there."
    )


def _measures_table(name: str, measures: Sequence[StrategyMeasures], synthetic: bool) -> Table:
    rows = [_measure_row(strategy, measure) for strategy in measures for measure in FIGURES_OF_MERIT]
    columns = ("pooled (95 % interval)", "over folds", "paper", "difference to the paper")
    title, headers = _title("Measures", measures), ("Strategy", "Measure")
    return Table(name, title, headers, columns, tuple(rows), MEASURES_NOTE, synthetic)


def _measure_row(strategy: StrategyMeasures, measure: str) -> Row:
    shown, pooled = FIGURES_OF_MERIT[measure], strategy.pooled[measure]
    printed = paper_metrics(strategy.strategy)[measure] if measure in MEASURES else None
    beside = None
    if printed is not None:
        value, low, high = (difference(v, printed) for v in (pooled.value, pooled.low, pooled.high))
        beside = Interval(value, low, high, signed=True)
    labels = (TITLES[strategy.strategy], shown.title if shown.ratio else f"{shown.title} (%)")
    return Row(labels, (pooled, strategy.spread[measure], printed, beside))


def _predictive_table(name: str, measures: Sequence[StrategyMeasures], synthetic: bool) -> Table:
    rows = []
    for strategy in measures:
        for at in strategy.predictive:
            own = ", the study's own share" if at.own else ""
            labels = (TITLES[strategy.strategy], f"{100 * at.prevalence:.{2 if at.own else 0}f} %{own}")
            rows.append(Row(labels, (at.ppv, at.npv)))
    title, headers, columns = _title("Predictive values", measures), ("Strategy", "Prevalence"), ("PPV (%)", "NPV (%)")
    return Table(name, title, headers, columns, tuple(rows), PREDICTIVE_NOTE, synthetic)


def _title(what: str, measures: Sequence[StrategyMeasures]) -> str:
    return f"{what}, {TITLES[measures[0].strategy].lower() if len(measures) == 1 else 'all strategies'}"
