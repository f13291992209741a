"""What a simulation found, in a terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cxr_platform.training.forecast import Forecast, saving
from cxr_platform.training.simulation import Conditions
from pipelines.study_tables import duration

if TYPE_CHECKING:
    from rich.table import Table

WORTH_CHANGING = 0.02
"""Of a makespan: below it, an order is no better than the other for any purpose."""


def times_table(seconds: Mapping[str, float]) -> "Table":
    """One row a strategy."""
    from rich.table import Table

    table = Table("Strategy")
    table.add_column("One trial", justify="right")
    for name, value in seconds.items():
        table.add_row(name, duration(value))
    return table


def forecast_table(rows: Sequence[Forecast]) -> "Table":
    """One row a number of trials, GPUs and order."""
    from rich.table import Table

    table = Table()
    headings = ("Trials", "GPUs", "Makespan", "Bound", "Ratio", "GPU-hours", "Busy", "Losses", "Done twice")
    for heading in headings:
        table.add_column(heading, justify="right")
    table.add_column("Order")
    for row in rows:
        makespan, bound, repeated = (
            duration(3600 * hours) for hours in (row.makespan_hours, row.bound_hours, row.repeated_hours)
        )
        busy = f"{100 * row.busy_share:.0f} %"
        figures = (f"{row.ratio:.3f}", f"{row.gpu_hours:,.1f}", busy, f"{row.losses:.1f}", repeated)
        table.add_row(f"{row.trials:,}", str(row.gpus), makespan, bound, *figures, row.order)
    return table


def conditions_line(conditions: Conditions) -> str:
    """What was assumed of the cluster."""
    slow = f"{100 * conditions.straggler_share:g} % of the trials take {conditions.straggler_factor:g} times as long"
    lost = (
        f"a GPU is lost {conditions.losses_an_hour:g} times an hour and back after {conditions.back_seconds:g} s, "
        f"a lost trial goes on from a checkpoint at most {conditions.checkpoint_seconds:g} s old after "
        f"{conditions.restart_seconds:g} s"
    )
    return "; ".join(
        [
            f"{conditions.trials_per_gpu} at once on a GPU",
            slow if conditions.straggler_share else "no stragglers",
            lost if conditions.losses_an_hour else "no GPU is lost",
        ]
    )


def saving_line(rows: Sequence[Forecast]) -> str:
    """Whether another order would be worth it."""
    share = saving(rows)
    if share is None:
        return "The study's order is longest first already."
    verdict = "worth changing" if share >= WORTH_CHANGING else "not worth changing"
    return f"Longest first would save at most {max(0.0, 100 * share):.1f} % of a makespan: {verdict}."
