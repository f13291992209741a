"""A value with its 95 % confidence interval: of a rate, of a ratio, or of a difference."""

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from pydantic import AfterValidator

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

    __pydantic_config__ = {  # noqa: RUF012
        **{"extra": "forbid", "strict": True},
        **{"allow_inf_nan": False, "ser_json_inf_nan": "constants"},  # JSON has no silent null for NaN
    }

    value: float | None
    low: float | None = None
    high: float | None = None
    ratio: bool = False
    signed: bool = False

    @property
    def excludes_zero(self) -> bool:
        """True if a difference is significant: 0 is outside the interval. False where undefined."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def check_range(interval: Interval, limit: float, expected: str) -> Interval:
    """Return `interval`; raise `ValueError` with `expected` if its value or a bound is not from 0 to `limit`."""
    for number in (interval.value, interval.low, interval.high):
        if number is not None and not 0 <= number <= limit:
            raise ValueError(f"{expected}, not {number:g}")
    return interval


def check_percent(interval: Interval) -> Interval:
    """Return `interval`; raise `ValueError` if it is not in percent, from 0 to 100."""
    if interval.ratio:
        raise ValueError("percent, not a ratio")
    return check_range(interval, 100, "percent from 0 to 100")


Rate: TypeAlias = Annotated[Interval, AfterValidator(check_percent)]
"""An interval in percent."""
