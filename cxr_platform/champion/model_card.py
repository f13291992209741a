"""MODEL_CARD.md of a bundle, under the headings of Mitchell et al. 2019 (arXiv:1810.03993).

Every figure in it is out-of-fold; what the network reaches on images that it was trained on stands nowhere. What only
people can tell (who is responsible, who was asked, who is harmed) is left visibly open.
"""

from typing import TYPE_CHECKING

from cxr_platform.champion.facts import OutOfFold
from cxr_platform.champion.model_card_tables import factors_table, figures_table, sources_table, worth_table
from cxr_platform.champion.reported import Reported
from cxr_platform.champion.winner import another_won, winner_sentence
from cxr_platform.domain.interval import REPLICATES
from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.formatting import joined, percent, rate
from cxr_platform.evaluation.paper import ARXIV_ID
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.statistics.association import sources_of
from cxr_platform.evaluation.summary import INTERVALS, LEAKAGE, PROTOCOL_MEANING
from cxr_platform.evaluation.table import SYNTHETIC, Table, to_markdown
from cxr_platform.labels import CLASSES, POSITIVE_CLASS
from cxr_platform.registry.bundle import Bundle

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Template


def model_card(
    bundle: Bundle, facts: OutOfFold, predictions: Predictions, images: "pd.DataFrame", reported: Reported
) -> str:
    """The model card as Markdown. `images` is the manifest's table without pixels, indexed by image_id."""
    outcome = facts.outcome
    return _template().render(
        bundle=bundle,
        title=TITLES[bundle.strategy],
        point=bundle.operating_point,
        reached=facts.point,
        decisions=facts.decisions,
        reported=reported,
        another_won=another_won(facts),
        winner=winner_sentence(facts),
        accuracy=facts.measures.pooled["accuracy_7_class"],
        majority=outcome.majority_accuracy,
        figures=figures_table(facts),
        worth=worth_table(facts),
        factors=factors_table(facts, predictions, images),
        counts=sources_table(facts),
        sources=sources_of(outcome.counts),
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
    """What stands before the first heading of the second level."""
    return text.split("\n## ", 1)[0].rstrip()


def _template() -> "Template":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cxr_platform", "champion/templates"),
        autoescape=False,  # Markdown
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"rate": rate, "percent": percent, "table": _table, "probability": _probability}
    return environment.get_template("MODEL_CARD.md.j2")


def _table(table: Table) -> str:
    return to_markdown(table).rstrip()


def _probability(value: float) -> str:
    return f"{value:.4f}"
