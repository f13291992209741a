"""A value with its 95 % confidence interval: of a rate, of a ratio, or of a difference."""

from dataclasses import dataclass

LEVEL = 0.95
"""Confidence level of every interval."""
REPLICATES = 2000
"""Bootstrap replicates behind every interval."""


@dataclass(frozen=True)
class Interval:
    """`value` with the bounds of its 95 % confidence interval, each `None` where undefined.

    Rates (accuracy, sensitivity, …) are in percent. `ratio` marks values from 0 to 1 (area under a curve, F1, Brier
    score, expected calibration error), which are printed with three decimals. `signed` marks differences, in percentage
    points.
    """

    __pydantic_config__ = {"extra": "forbid", "strict": True, "allow_inf_nan": False}  # noqa: RUF012

    value: float | None
    low: float | None = None
    high: float | None = None
    ratio: bool = False
    signed: bool = False

    @property
    def excludes_zero(self) -> bool:
        """True if a difference is significant: 0 is outside the interval. False where undefined."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high
