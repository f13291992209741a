"""Images of none of the seven classes: how often the winner calls them each class, above all Covid19.

As external images, each is scored by the networks of all folds; the figures are those of their mean probabilities.
"""

from collections.abc import Sequence
from typing import Any

from cxr_platform.evaluation.finding_clauses import outside_text
from cxr_platform.evaluation.findings import SMALL, OutsideFinding
from cxr_platform.evaluation.formatting import shortened
from cxr_platform.evaluation.pictures import Picture
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections.rate_bars import Bar, Labels, rate_bars
from cxr_platform.evaluation.statistics.bootstrap import study_seed
from cxr_platform.evaluation.statistics.external import interval_values
from cxr_platform.evaluation.statistics.outside import outside_findings
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

NAME, TITLE = "outside", "Images outside the seven classes"
METHOD = (
    "A network of seven classes gives one of them to every image, also to one of another disease. Such images should "
    f"be called {POSITIVE_CLASS} no more often than images without {POSITIVE_CLASS} are in cross-validation."
)
RULE = (
    f"Higher: more of them are called {POSITIVE_CLASS} than of the images without {POSITIVE_CLASS} in "
    "cross-validation, and the two 95 % intervals do not overlap."
)
TAKEN = f"The network takes other diseases for {POSITIVE_CLASS}, or goes by something else that these images share."
NOTE = "Percent of the images of a source that are given each class, by the mean of the folds' networks."


def compute(inputs: ReportInputs) -> tuple[OutsideFinding, ...]:
    """Return the findings on every outside source for all strategies, the winner's first."""
    frame = inputs.evidence.parts.get(NAME)
    if frame is None:
        return ()
    return tuple(outside_findings(frame, inputs.predictions, inputs.winner_first, study_seed(inputs.study)))


def render(inputs: ReportInputs, found: Sequence[OutsideFinding]) -> Section:
    """Show what the winner answers for outside images, with a warning for each source that it calls Covid19 too often.

    Single findings of a source follow where there are several, and all strategies are folded.
    """
    synthetic = inputs.synthetic
    if not found:
        return Section(NAME, TITLE, absent=inputs.evidence.why_absent(NAME))
    winner = inputs.results.decision.winner
    of_winner = [f for f in found if f.strategy == winner]
    sources = [f for f in of_winner if f.whole]
    parts = [f for f in of_winner if not f.whole]
    tables = [answers_table(sources, synthetic)]
    if parts:
        tables.append(findings_table(parts, synthetic))
    return Section(
        NAME,
        TITLE,
        lead=(METHOD, *(f"{sentence(f)}." for f in sources if not f.higher)),
        pictures=(_picture(sources, synthetic),),
        tables=tuple(tables),
        folded=(strategies_table([f for f in found if f.whole], synthetic),),
        warnings=tuple(f"{sentence(f)}. {TAKEN}" for f in sources if f.higher),
        values={"rule": RULE, "findings": [_values(f) for f in found]},
    )


def sentence(found: OutsideFinding) -> str:
    """Return a sentence on a source, without its full stop, which says if its patients are few."""
    clause = outside_text(found)
    few = f"; fewer than {SMALL} patients: no more than a hint" if found.small else ""
    return f"{clause[:1].upper()}{clause[1:]}{few}"


def answers_table(sources: Sequence[OutsideFinding], synthetic: bool) -> Table:
    """Return the shares that one strategy calls each class: a column for each source."""
    rows = [Row((label,), tuple(f.shares[position] for f in sources)) for position, label in enumerate(CLASSES)]
    rows.append(Row(("images",), tuple(f.images for f in sources), "total"))
    columns = tuple(f"{f.source} (%)" for f in sources)
    title = "What images outside the seven classes are called"
    return Table("outside", title, ("Answer",), columns, tuple(rows), NOTE, synthetic)


def findings_table(parts: Sequence[OutsideFinding], synthetic: bool) -> Table:
    """Return a row for each finding of a source: how often one strategy calls it Covid19."""
    rows = []
    for f in parts:
        most = max(range(len(CLASSES)), key=lambda position: f.shares[position].value or 0.0)
        labels = (f.source, f.finding)
        rows.append(Row(labels, (f.images, f.called, f.share, CLASSES[most]), "small" * (f.images < SMALL)))
    columns = ("images", f"called {POSITIVE_CLASS}", f"called {POSITIVE_CLASS} (%)", "most frequent answer")
    title = f"Findings outside the seven classes that are called {POSITIVE_CLASS}"
    note = f"Grey italics: fewer than {SMALL} images, too few for a conclusion."
    return Table("outside-findings", title, ("Source", "Finding"), columns, tuple(rows), note, synthetic)


def strategies_table(sources: Sequence[OutsideFinding], synthetic: bool) -> Table:
    """Return a row for each source and strategy: how often it is called Covid19."""
    rows = [
        Row((f.source, f.strategy), (f.images, f.called, f.share, f.internal, "yes" if f.higher else "no"))
        for f in sorted(sources, key=lambda f: f.source)
    ]
    columns = (
        *("images", f"called {POSITIVE_CLASS}", f"called {POSITIVE_CLASS} (%)"),
        *("in cross-validation (%)", "higher"),
    )
    title = f"Images outside the seven classes called {POSITIVE_CLASS}, all strategies"
    return Table("outside-all", title, ("Source", "Strategy"), columns, tuple(rows), RULE, synthetic)


def _picture(sources: Sequence[OutsideFinding], synthetic: bool) -> Picture:
    bars = [Bar(f"{shortened(f.source)}\nn = {f.images:,}", f.share, "alarm" if f.higher else "plain") for f in sources]
    bars.append(Bar(f"without {POSITIVE_CLASS},\nin cross-validation", sources[0].internal, "reference"))
    labels = Labels(
        "outside",
        title=f"Called {POSITIVE_CLASS}",
        axis=f"Images called {POSITIVE_CLASS} (%)",
        caption=f"Images outside the seven classes that the winner calls {POSITIVE_CLASS}",
        alt=f"Bars, one for each source, and one for images without {POSITIVE_CLASS} in cross-validation, in percent",
    )
    return rate_bars(bars, labels, chance=None, synthetic=synthetic)


def _values(found: OutsideFinding) -> dict[str, Any]:
    names = ("source", "finding", "whole", "strategy", "images", "groups", "called", "higher")
    return {
        **{name: getattr(found, name) for name in names},
        "shares": {label: interval_values(share) for label, share in zip(CLASSES, found.shares, strict=True)},
        "internal": interval_values(found.internal),
    }
