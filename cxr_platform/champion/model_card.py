"""MODEL_CARD.md of a bundle, with the headings of Mitchell et al. 2019 (arXiv:1810.03993).

Every rate in it is out-of-fold. Parts that only the publisher of a model can write are marked OPEN.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from cxr_platform.champion.out_of_fold import OutOfFold
from cxr_platform.domain.interval import REPLICATES
from cxr_platform.domain.strategies import TITLES
from cxr_platform.domain.study import StudyRecord
from cxr_platform.evaluation.finding_clauses import confounding_warning
from cxr_platform.evaluation.findings import SMALL, Association
from cxr_platform.evaluation.formatting import Value, joined, percent, rate, text
from cxr_platform.evaluation.limits import INTERVALS, LEAKAGE
from cxr_platform.evaluation.paper import ARXIV_ID
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.report_tables import counts_table, sets_table
from cxr_platform.evaluation.statistics.association import cramers_v, single_source, sources_of
from cxr_platform.evaluation.statistics.bootstrap import study_seed
from cxr_platform.evaluation.statistics.measures import (
    FIGURES_OF_MERIT,
    PREVALENCES,
    StrategyMeasures,
    predictive_values,
)
from cxr_platform.evaluation.statistics.subgroups import Subgroup, SubgroupRates, subgroups
from cxr_platform.evaluation.study_results import StudyResults
from cxr_platform.evaluation.summary import CREDIBILITY, PROTOCOL_MEANING
from cxr_platform.evaluation.table import SYNTHETIC, Row, Table, to_markdown
from cxr_platform.labels import CLASSES, POSITIVE_CLASS
from cxr_platform.registry.bundle import Bundle

SUBGROUP_COLUMNS = ("7-class accuracy (%)", f"{POSITIVE_CLASS} sensitivity (%)", f"{POSITIVE_CLASS} specificity (%)")


@dataclass(frozen=True)
class ReportedLimits:
    """Limits of a study's results, repeated from its report.

    `confounding` names classes with a single source, or is empty; it needs no report. `credibility` and `limits` are
    sentences of the report, `None` and empty without a report of the study in its present state.
    """

    confounding: str
    credibility: str | None
    limits: tuple[str, ...]


def reported_limits(folder: Path, results: StudyResults) -> ReportedLimits:
    """Return the limits in `folder`/results.json, and the confounding of classes and sources in `results`."""
    counts = results.counts
    association = Association(cramers_v(counts), single_source(counts), len(sources_of(counts)))
    lines, limits = _summary(folder / "results.json", results.study)
    return ReportedLimits(confounding_warning(association), lines.get(CREDIBILITY), limits)


def model_card(
    bundle: Bundle, performance: OutOfFold, predictions: Predictions, images: pd.DataFrame, reported: ReportedLimits
) -> str:
    """Return the model card as Markdown. `images` is the manifest's table without pixels, indexed by image_id."""
    results = performance.results
    return _template().render(
        bundle=bundle,
        title=TITLES[bundle.strategy],
        point=performance.operating_point,
        gate=performance.strategy in predictions.indeterminate,
        sets=performance.prediction_sets,
        reported=reported,
        another_won=another_won(performance),
        winner=winner_sentence(performance),
        accuracy=performance.measures.pooled["accuracy_7_class"],
        majority=results.majority_accuracy,
        metrics=metrics_table(performance),
        set_coverage=sets_table(performance.prediction_sets, _synthetic(performance)),
        predictive_values=predictive_value_table(performance),
        subgroups=subgroup_table(performance, predictions, images),
        counts=counts_table(results),
        sources=sources_of(results.counts),
        groups=len(set(predictions.group_id)),
        classes=joined(CLASSES),
        positive=POSITIVE_CLASS,
        protocol=PROTOCOL_MEANING[bundle.study.protocol],
        intervals=INTERVALS,
        leakage=LEAKAGE,
        replicates=REPLICATES,
        arxiv=ARXIV_ID,
        synthetic=SYNTHETIC,
    )


def model_card_head(text: str) -> str:
    """Return the part of a model card before its first section."""
    return text.split("\n## ", 1)[0].rstrip()


def winner_sentence(performance: OutOfFold) -> str:
    """Return whether the strategy won the study, shares the first place, or lost, then with the metrics of both."""
    decision, title = performance.results.decision, TITLES[performance.strategy].lower()
    if decision.runner_up is None:
        return f"The study has no other strategy than this one, {title}."
    if performance.winner is None and not decision.tied:
        return f"This strategy, {title}, won the study."
    if performance.winner is None or performance.strategy in decision.tied:
        first = (decision.winner, *decision.tied)
        others = joined([TITLES[name].lower() for name in first if name != performance.strategy])
        return f"This strategy, {title}, shares the first place of the study with {others}."
    return (
        f"Another strategy won the study: {TITLES[performance.winner.strategy].lower()}, {_rates(performance.winner)}. "
        f"This model was trained by {title}: {_rates(performance.measures)}."
    )


def another_won(performance: OutOfFold) -> bool:
    """Return True if the paper's rule ranks another strategy before this one."""
    return performance.winner is not None and performance.strategy not in performance.results.decision.tied


def metrics_table(performance: OutOfFold) -> Table:
    """Return every metric with its 95 % interval, beside those of the winner if another strategy won."""
    compared = [performance.measures, *([performance.winner] if performance.winner else [])]
    columns = tuple(f"{TITLES[measures.strategy]} (95 % interval)" for measures in compared)
    rows = [
        Row((f"{measure.title}{'' if measure.ratio else ' (%)'}",), tuple(m.pooled[name] for m in compared))
        for name, measure in FIGURES_OF_MERIT.items()
    ]
    note = "Before calibration; an image is assigned to its most probable class."
    return Table("metrics", "Out-of-fold metrics", ("Measure",), columns, tuple(rows), note, _synthetic(performance))


def predictive_value_table(performance: OutOfFold) -> Table:
    """Return PPV and NPV of the threshold by prevalence, from its out-of-fold sensitivity and specificity."""
    point = performance.operating_point
    rates = (point.sensitivity.value, point.specificity.value)
    sensitivity, specificity = (np.array([np.nan if rate is None else rate]) for rate in rates)
    rows = []
    for prevalence in PREVALENCES:
        values = (float(v[0]) for v in predictive_values(sensitivity, specificity, prevalence))
        rows.append(Row((f"{100 * prevalence:.0f} %",), tuple(None if np.isnan(value) else value for value in values)))
    note = (
        "By Bayes' rule, with the same sensitivity and specificity at every prevalence. Images in the zone, which a "
        "server leaves indeterminate, count by the threshold."
    )
    columns, title = ("PPV (%)", "NPV (%)"), "Predictive values of the threshold"
    prevalence_column = f"Prevalence of {POSITIVE_CLASS}"
    return Table("predictive-values", title, (prevalence_column,), columns, tuple(rows), note, _synthetic(performance))


def subgroup_table(performance: OutOfFold, predictions: Predictions, images: pd.DataFrame) -> Table | None:
    """Return rates by source, view, sex and age band, or `None` if the images have no subgroups.

    `images` is the manifest's table, indexed by image_id.
    """
    rates = SubgroupRates(predictions, performance.strategy, study_seed(performance.results.study))
    parts = subgroups(rates, images)
    if not parts:
        return None
    rows = [Row((part.by, part.name), tuple(_subgroup_cells(part))) for part in (*parts, rates.overall())]
    note = f"In parentheses the 95 % interval, then the images of the rate; below {SMALL} images a rate says little."
    head = ("By", "Subgroup")
    return Table("subgroups", "Subgroups", head, SUBGROUP_COLUMNS, tuple(rows), note, _synthetic(performance))


def _summary(path: Path, study: StudyRecord) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Return text by title, and limits, of results.json; both empty without it or if the study has changed since."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        known = study.model_dump(mode="json", include={"started", "strategies"})
        same = all(tree["study"][key] == value for key, value in known.items())
        if same and tree["manifest"]["content_hash"] == study.manifest.content_hash:
            lines = {line["title"]: line["text"] for line in tree["summary"].get("lines", [])}
            limits = tree["summary"].get("limits", [])
            return lines, tuple(limit for limit in limits if limit != INTERVALS)  # the model card has its own
    except (AttributeError, OSError, ValueError, KeyError, TypeError):  # the model card states that there is no report
        pass
    return {}, ()


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cxr_platform", "champion/templates"),
        autoescape=False,  # Markdown
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "rate": rate,
        "percent": percent,
        "table": lambda table: to_markdown(table).rstrip(),
        "probability": lambda value: f"{value:.4f}",
    }
    return environment.get_template("MODEL_CARD.md.j2")


def _rates(measures: StrategyMeasures) -> str:
    pooled = measures.pooled
    return (
        f"7-class accuracy {rate(pooled['accuracy_7_class'])}, {POSITIVE_CLASS} sensitivity "
        f"{rate(pooled['sensitivity'])}, specificity {rate(pooled['specificity'])}"
    )


def _subgroup_cells(part: Subgroup) -> Iterator[Value]:
    for measure in ("accuracy", "sensitivity", "specificity"):
        cell = part[measure]
        yield f"{text(cell.interval)}; n = {cell.images:,}" if cell.images else None


def _synthetic(performance: OutOfFold) -> bool:
    return performance.results.study.manifest.synthetic
