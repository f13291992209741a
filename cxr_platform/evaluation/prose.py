"""Figures and lists as they stand in a sentence."""

from collections.abc import Sequence

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.table import text

NBSP = "\N{NO-BREAK SPACE}"
LEAST_P = 0.001


def percent(value: float | None) -> str:
    """A share with two decimals."""
    return "an undefined share" if value is None else f"{text(value)}{NBSP}%"


def rate(value: Interval) -> str:
    """A share in percent, its interval in parentheses: 98.50 % (97.10 to 99.40)."""
    if value.value is None or value.low is None or value.high is None:
        return percent(value.value)
    return f"{percent(value.value)} ({text(value.low)} to {text(value.high)})"


def p_text(p: float) -> str:
    """A p-value with three decimals, or that it is below the least of them."""
    return f"p < {LEAST_P}" if p < LEAST_P else f"p = {p:.3f}"


def joined(names: Sequence[str]) -> str:
    """A, B and C."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def shortened(name: str, length: int = 20) -> str:
    """The name, or its start with an ellipsis, in at most `length` characters."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def count(number: int, one: str, many: str) -> str:
    """1 image, 2 images."""
    return f"{number:,} {one if number == 1 else many}"
