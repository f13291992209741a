"""Tables of `cxr registry` for a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from cxr_platform.monitoring.shadow_counts import ShadowCounts
    from cxr_platform.registry.bundle import Bundle
    from cxr_platform.registry.bundle_comparison import BundleComparison
    from cxr_platform.registry.state import RegistryState
    from cxr_platform.registry.store import VersionCheck

SYNTHETIC = "SYNTHETIC IMAGES"


@dataclass(frozen=True)
class Version:
    """A version with its bundle, or with the reason why the bundle cannot be read."""

    name: str
    bundle: "Bundle | None"
    problem: str | None


def versions_table(versions: Sequence[Version], state: "RegistryState") -> "Table":
    """Return a table with one row per version; rates in percent."""
    from rich.table import Table
    from rich.text import Text

    from cxr_platform.registry.bundle_comparison import ACCURACY, interval_text

    table = Table(title="Versions, with out-of-fold figures in percent; sensitivity and specificity of the threshold")
    for column in ("", "Created (UTC)", "Strategy", "Study", "7-class accuracy", "Sensitivity", "Specificity"):
        table.add_column(column)
    for version in versions:
        name = f"{version.name}{' champion' if version.name == state.champion else ''}"
        bundle = version.bundle
        if bundle is None:
            created = _minute(state.versions[version.name].created)
            table.add_row(name, created, Text("cannot be read: run cxr registry verify", "red"))
            continue
        point = bundle.operating_point
        study = f"{bundle.study.name}\n{SYNTHETIC if bundle.synthetic else ''}"
        figures = (bundle.metrics[ACCURACY], point.sensitivity, point.specificity)
        cells = (interval_text(figure).replace(" (", "\n(") for figure in figures)
        table.add_row(name, _minute(bundle.created), bundle.strategy, study, *cells)
    return table


def bundle_table(bundle: "Bundle") -> "Table":
    """Return a table with the main facts of one version; `show --json` prints all."""
    from rich.table import Table

    from cxr_platform.registry.bundle_comparison import ComparedMetric, interval_text

    study, point, parity, training = bundle.study, bundle.operating_point, bundle.parity, bundle.training
    (low, high), rates = point.zone, point.decisions
    winner = ", the study's winner" if study.winner == bundle.strategy else f"; the study's winner is {study.winner}"
    facts = {
        "Created (UTC)": _minute(bundle.created),
        "Strategy": f"{bundle.strategy}{winner}",
        "Study": f"{study.name}: {study.images:,} images, {study.folds} folds, {study.protocol}, {study.profile}",
        "Manifest": study.manifest_hash,
        "Training": f"{training.images:,} images, {training.epochs} epochs, {training.seconds:,.0f} s",
        "Backend": ", ".join(filter(None, (training.backend, training.precision))),
        "Input": f"{bundle.preprocessing.input_size} × {bundle.preprocessing.input_size} pixels",
        "Temperature": f"{bundle.temperature:.3f}",
        "Operating point": f"positive from {high:.4f} on, negative below {low:.4f}, indeterminate between them",
        "  Covid19 images": f"{interval_text(rates.true_positive)} called positive, "
        f"{interval_text(rates.false_negative)} negative",
        "  other images": f"{interval_text(rates.true_negative)} called negative, "
        f"{interval_text(rates.false_positive)} positive",
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


def comparison_table(comparison: "BundleComparison") -> "Table":
    """Return a table with the figures of both versions; figures that decide are bold, and red where they are worse."""
    from rich.table import Table

    from cxr_platform.registry.bundle_comparison import interval_text

    table = Table(title="Out-of-fold figures with 95 % intervals")
    for column in ("", comparison.new, comparison.present or "no champion yet"):
        table.add_column(column)
    for metric in comparison.metrics:
        style = "bold red" if metric.worse else "bold" if metric.decisive else ""
        mark = " (worse)" if metric.worse else ""
        table.add_row(metric.title, interval_text(metric.new) + mark, interval_text(metric.present), style=style)
    return table


def checks_table(checks: "Sequence[VersionCheck]") -> "Table":
    """Return a table with one row per version that was verified."""
    from rich.table import Table
    from rich.text import Text

    table = Table("Version")
    table.add_column("Every byte compared with its hash", overflow="fold")
    for check in checks:
        table.add_row(check.name, Text(check.problem, "red") if check.problem else "unchanged")
    return table


def decisions_table(counts: "ShadowCounts") -> "Table":
    """Return a table of images by the decisions of the champion (rows) and of the challenger (columns)."""
    from rich.table import Table

    columns = sorted({theirs for _, theirs in counts.decisions})
    table = Table(title="Images of clients by decision")
    for column in (f"{counts.champion}, the champion", *(f"{counts.challenger}: {name}" for name in columns)):
        table.add_column(column)
    for ours in sorted({ours for ours, _ in counts.decisions}):
        table.add_row(ours, *(f"{counts.decisions.get((ours, theirs), 0):,}" for theirs in columns))
    return table


def agreement_text(counts: "ShadowCounts") -> str:
    """Return how often both decided alike, what was skipped, and the largest drift, in sentences."""
    from cxr_platform.registry.bundle_comparison import interval_text

    if not counts.images:
        text = f"No image was screened by both {counts.champion} and {counts.challenger}: serve with --shadow."
    else:
        text = (
            f"{counts.challenger} decided as {counts.champion} for {interval_text(counts.agreement)} % of "
            f"{counts.images:,} images. Which of the two is right is not known."
        )
    if counts.skipped:
        text += " Not screened by the challenger: "
        text += ", ".join(f"{images:,} ({reason})" for reason, images in sorted(counts.skipped.items())) + "."
    if counts.drift:
        quantity, psi = max(counts.drift.items(), key=lambda item: item[1])
        text += f" Largest drift from its training images: {quantity}, PSI {psi:.2f}."
    return text


def _minute(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M}"
