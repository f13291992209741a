"""The registry's tables in a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from cxr_platform.registry.bundle import Bundle
    from cxr_platform.registry.comparison import Comparison
    from cxr_platform.registry.state import State
    from cxr_platform.registry.store import Check

SYNTHETIC = "SYNTHETIC IMAGES"


@dataclass(frozen=True)
class Known:
    """A version with its bundle, or with what is wrong with it."""

    version: str
    bundle: "Bundle | None"
    problem: str | None

    def plain(self, state: "State") -> dict[str, Any]:
        """Values for JSON: the facts that `list` shows."""
        bundle, entry = self.bundle, state.versions[self.version]
        facts = bundle and {
            "synthetic": bundle.synthetic,
            "study": bundle.study.name,
            "strategy": bundle.strategy,
            **bundle.model_dump(mode="json", include={"metrics", "operating_point"}),
        }
        champion = self.version == state.champion
        return {
            "version": self.version,
            "champion": champion,
            **entry.model_dump(mode="json"),
            "problem": self.problem,
            **(facts or {}),
        }


def versions_table(known: Sequence[Known], state: "State") -> "Table":
    """One row a version, the champion marked; rates in percent."""
    from rich.table import Table
    from rich.text import Text

    from cxr_platform.registry.comparison import ACCURACY, interval_text

    table = Table(title="Versions, with out-of-fold figures in percent; sensitivity and specificity of the threshold")
    for column in ("", "Created (UTC)", "Strategy", "Study", "7-class accuracy", "Sensitivity", "Specificity"):
        table.add_column(column)
    for item in known:
        name = f"{item.version}{' champion' if item.version == state.champion else ''}"
        if item.bundle is None:
            table.add_row(
                name, _minute(state.versions[item.version].created), Text("cannot be read: see verify", "red")
            )
            continue
        bundle, point = item.bundle, item.bundle.operating_point
        study = f"{bundle.study.name}\n{SYNTHETIC if bundle.synthetic else ''}"
        figures = (bundle.metrics[ACCURACY], point.sensitivity, point.specificity)
        cells = (interval_text(figure).replace(" (", "\n(") for figure in figures)
        table.add_row(name, _minute(bundle.created), bundle.strategy, study, *cells)
    return table


def bundle_table(bundle: "Bundle") -> "Table":
    """What a person asks of one version first; --json has everything."""
    from rich.table import Table

    from cxr_platform.registry.comparison import ComparedMetric, interval_text

    study, point, parity, training = bundle.study, bundle.operating_point, bundle.parity, bundle.training
    (low, high), rates = point.zone, point.decisions
    facts = {
        "Created (UTC)": _minute(bundle.created),
        "Strategy": f"{bundle.strategy}{_won(bundle)}",
        "Study": f"{study.name}: {study.images:,} images, {study.folds} folds, {study.protocol}, {study.profile}",
        "Manifest": study.manifest_hash,
        "Training": f"{training.images:,} images, {training.epochs} epochs, {training.seconds:,.0f} s",
        "Backend": training.backend,
        "Input": f"{bundle.preprocessing.input_size} × {bundle.preprocessing.input_size} pixels",
        "Temperature": f"{bundle.temperature:.3f}",
        "Operating point": f"positive from {high:.4f} on, negative below {low:.4f}, indeterminate between them",
        "  Covid19 images": f"{interval_text(rates.true_positive)} called positive, {interval_text(rates.false_negative)} negative",
        "  other images": f"{interval_text(rates.true_negative)} called negative, {interval_text(rates.false_positive)} positive",
        "  indeterminate": f"{interval_text(rates.indeterminate)} of all images",
        "Threshold alone": f"{point.threshold:.4f}, for a target of {100 * point.target_sensitivity:g} %",
        "  sensitivity": interval_text(point.sensitivity),
        "  specificity": interval_text(point.specificity),
        "ONNX against Keras": f"{parity.max_abs_difference:.1e} at most on {parity.images} images",
    }
    title = f"{bundle.version}{f' · {SYNTHETIC}' if bundle.synthetic else ''} · for research, not for diagnosis"
    table = Table(title=title, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, fact in facts.items():
        table.add_row(name, fact)
    table.add_section()
    table.add_row("Out-of-fold figures", "")
    for name, figure in bundle.metrics.items():
        table.add_row(f"  {ComparedMetric(name, figure, None).title}", interval_text(figure))
    return table


def comparison_table(comparison: "Comparison") -> "Table":
    """The figures of both; those that can refuse a promotion are bold, and red where they do."""
    from rich.table import Table

    from cxr_platform.registry.comparison import interval_text

    table = Table(title="Out-of-fold figures with 95 % intervals")
    for column in ("", comparison.new, f"{comparison.present or 'no champion yet'}"):
        table.add_column(column)
    for metric in comparison.metrics:
        style = "bold red" if metric.worse else "bold" if metric.decisive else ""
        mark = " (worse)" if metric.worse else ""
        table.add_row(metric.title, interval_text(metric.new) + mark, interval_text(metric.present), style=style)
    return table


def checks_table(checks: "Sequence[Check]") -> "Table":
    """One row a version."""
    from rich.table import Table
    from rich.text import Text

    table = Table("Version")
    table.add_column("Every byte compared with its hash", overflow="fold")
    for check in checks:
        table.add_row(check.name, Text(check.problem, "red") if check.problem else "as it was added")
    return table


def _minute(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M}"


def _won(bundle: "Bundle") -> str:
    winner = bundle.study.winner
    return ", the study's winner" if winner == bundle.strategy else f"; the study's winner is {winner}"
