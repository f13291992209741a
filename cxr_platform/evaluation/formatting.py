"""Figures and lists as they stand in a sentence."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.metrics import Spread

Value = Interval | Spread | float | int | str | None
NBSP = "\N{NO-BREAK SPACE}"


LEAST_P = 0.001
ABSENT = "–"
MINUS = "−"


def text(value: Value, *, signed: bool = False) -> str:
    """A cell as people read it: two decimals, as the paper; mean ± standard deviation; a figure with its interval in
    parentheses; a dash for what there is not."""
    if value is None:
        return ABSENT
    if isinstance(value, Interval):
        return _interval_text(value)
    if isinstance(value, Spread):
        return _spread_text(value)
    if isinstance(value, float):
        return _decimal(value, 2, signed)
    return f"{value:,}" if isinstance(value, int) else value


def _decimal(value: float, digits: int, signed: bool) -> str:
    if round(value, digits) == 0:
        return f"{0:.{digits}f}"  # no sign before nothing
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", MINUS)


def _interval_text(value: Interval) -> str:
    digits = 3 if value.ratio else 2
    shown = [ABSENT if v is None else _decimal(v, digits, value.signed) for v in (value.value, value.low, value.high)]
    return shown[0] if value.low is None and value.high is None else f"{shown[0]} ({shown[1]} to {shown[2]})"


def _spread_text(value: Spread) -> str:
    shown = [ABSENT if v is None else _decimal(v, 3 if value.ratio else 2, False) for v in (value.mean, value.sd)]
    mean = shown[0] if value.sd is None else f"{shown[0]} ± {shown[1]}"
    return f"{mean} ({value.defined} of {value.folds} folds)" if 0 < value.defined < value.folds else mean


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


# Nested values by the path that leads to each, for places that know flat names only.


def flatten(tree: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(keys from the outermost in, value) of everything in `tree` that is no mapping, in its order."""
    if not isinstance(tree, Mapping):
        yield path, tree
        return
    for key, value in tree.items():
        yield from flatten(value, *path, str(key))
