"""The tables of a model card, all of them out-of-fold."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cxr_platform.champion.facts import OutOfFold
from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.formatting import Value, text
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.report_tables import counts_table
from cxr_platform.evaluation.statistics.bootstrap import study_seed
from cxr_platform.evaluation.statistics.measures import FIGURES_OF_MERIT, PREVALENCES, predictive_values
from cxr_platform.evaluation.statistics.subgroups import SMALL, Subgroup, SubgroupRates, subgroups
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import POSITIVE_CLASS

if TYPE_CHECKING:
    import pandas as pd

RATES = ("7-class accuracy (%)", f"{POSITIVE_CLASS} sensitivity (%)", f"{POSITIVE_CLASS} specificity (%)")


def figures_table(facts: OutOfFold) -> Table:
    """Every figure of merit with its 95 % interval; where another strategy won, its figures beside them."""
    shown = [facts.measures, *([facts.winner] if facts.winner else [])]
    columns = tuple(f"{TITLES[m.strategy]} (95 % interval)" for m in shown)
    rows = [
        Row((f"{measure.title}{'' if measure.ratio else ' (%)'}",), tuple(m.pooled[name] for m in shown))
        for name, measure in FIGURES_OF_MERIT.items()
    ]
    note = "Before calibration; an image is counted as the class that is likeliest."
    return Table("figures", "Out-of-fold figures", ("Measure",), columns, tuple(rows), note, _synthetic(facts))


def worth_table(facts: OutOfFold) -> Table:
    """PPV and NPV of the threshold, by the sensitivity and specificity that it reached out of fold."""
    import numpy as np

    rates = (facts.point.sensitivity.value, facts.point.specificity.value)
    sensitivity, specificity = (np.array([np.nan if rate is None else rate]) for rate in rates)
    rows = []
    for prevalence in PREVALENCES:
        values = (float(v[0]) for v in predictive_values(sensitivity, specificity, prevalence))
        rows.append(Row((f"{100 * prevalence:.0f} %",), tuple(None if np.isnan(value) else value for value in values)))
    note = (
        "By Bayes' rule, if sensitivity and specificity were the same there; images of the zone, which a server leaves "
        "undecided, are counted by the threshold."
    )
    columns = ("PPV (%)", "NPV (%)")
    title, head = "What a call at the threshold is worth", f"Share of {POSITIVE_CLASS}"
    return Table("worth", title, (head,), columns, tuple(rows), note, _synthetic(facts))


def factors_table(facts: OutOfFold, predictions: Predictions, images: "pd.DataFrame") -> Table | None:
    """Rates by source, view, sex and age band; `None` where the images cannot be divided. `images` is the manifest's
    table, indexed by image_id."""
    judged = SubgroupRates(predictions, facts.strategy, study_seed(facts.outcome.study))
    parts = subgroups(judged, images)
    if not parts:
        return None
    rows = [Row((part.by, part.name), tuple(_rates(part))) for part in (*parts, judged.overall())]
    note = f"In parentheses the 95 % interval and the images of the rate; fewer than {SMALL} images say little."
    return Table("factors", "Parts of the images", ("By", "Part"), RATES, tuple(rows), note, _synthetic(facts))


def sources_table(facts: OutOfFold) -> Table:
    """Images of each class by source."""
    return counts_table(facts.outcome)


def _rates(part: Subgroup) -> Iterator[Value]:
    for measure in ("accuracy", "sensitivity", "specificity"):
        rate = part[measure]
        yield f"{text(rate.interval)}; n = {rate.images:,}" if rate.images else None


def _synthetic(facts: OutOfFold) -> bool:
    return facts.outcome.study.manifest.synthetic
