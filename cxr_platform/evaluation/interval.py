"""A figure with its interval, or a difference with its own."""

from dataclasses import dataclass

LEVEL = 0.95
REPLICATES = 2000


@dataclass(frozen=True)
class Interval:
    """`value` with the bounds of its 95 % interval, `None` where undefined.

    Rates (accuracy, sensitivity, …) are in percent as everywhere in the report. `ratio` marks figures from 0 to 1
    (area under a curve, F1, Brier score, expected calibration error), which are printed with three decimals.
    `signed` marks differences.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    ratio: bool = False
    signed: bool = False

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is further from nothing than chance explains; false where undefined."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high
