"""Numbers, intervals and lists as text in tables and sentences, and nested mappings as flat ones."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.metrics import Spread

Value: TypeAlias = Interval | Spread | float | int | str | None
NBSP = "\N{NO-BREAK SPACE}"
ABSENT = "–"
MINUS = "−"
SMALLEST_P = 0.001


def text(value: Value, *, signed: bool = False) -> str:
    """Return `value` as shown in tables.

    A float or percentage has two decimals, as in the paper, and a ratio three. An `Interval` is `98.50 (97.10 to
    99.40)`, a `Spread` is mean ± standard deviation, and `None` is a dash. `signed` adds a plus to a positive float.
    """
    if value is None:
        return ABSENT
    if isinstance(value, Interval):
        bounds = (value.value, value.low, value.high)
        shown = [_number(number, value.ratio, signed=value.signed) for number in bounds]
        return shown[0] if value.low is None and value.high is None else f"{shown[0]} ({shown[1]} to {shown[2]})"
    if isinstance(value, Spread):
        mean = _number(value.mean, value.ratio)
        mean = mean if value.sd is None else f"{mean} ± {_number(value.sd, value.ratio)}"
        return f"{mean} ({value.defined} of {value.folds} folds)" if 0 < value.defined < value.folds else mean
    if isinstance(value, float):
        return _number(value, signed=signed)
    return f"{value:,}" if isinstance(value, int) else value


def _number(value: float | None, ratio: bool = False, *, signed: bool = False) -> str:
    if value is None:
        return ABSENT
    digits = 3 if ratio else 2
    if round(value, digits) == 0:
        return f"{0:.{digits}f}"  # zero has no sign
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", MINUS)


def percent(value: float | None) -> str:
    """Return a percentage with two decimals: `98.50 %`; `None` gives `an undefined share`."""
    return "an undefined share" if value is None else f"{text(value)}{NBSP}%"


def rate(value: Interval) -> str:
    """Return a percentage with its interval, if it has one: `98.50 % (97.10 to 99.40)`."""
    if value.value is None or value.low is None or value.high is None:
        return percent(value.value)
    return f"{percent(value.value)} ({text(value.low)} to {text(value.high)})"


def bounds(difference: Interval) -> str:
    """Return the bounds of a difference with their signs: `−1.10 to +5.00`."""
    low, high = (text(bound, signed=True) for bound in (difference.low, difference.high))
    return f"{low} to {high}"


def points(value: float | None) -> str:
    """Return a difference in percentage points as the start of a comparison: `1.20 points … more than`."""
    if value is None:
        return "An undefined difference to"
    if round(value, 2) == 0:
        return "Tied with"
    return f"{text(abs(value))} points of 7-class accuracy {'more' if value > 0 else 'less'} than"


def p_text(p: float) -> str:
    """Return `p = 0.012`, with three decimals, or `p < 0.001`."""
    return f"p < {SMALLEST_P}" if p < SMALLEST_P else f"p = {p:.3f}"


def titles(strategies: Iterable[str]) -> list[str]:
    """Return the titles of strategies within a sentence: `training from scratch`."""
    return [TITLES[strategy].lower() for strategy in strategies]


def joined(names: Sequence[str]) -> str:
    """Return the names as a list in a sentence: `A, B and C`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def shortened(name: str, length: int = 20) -> str:
    """Return the name, cut to `length` characters with an ellipsis."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def count(number: int, one: str, many: str) -> str:
    """Return `1 image` or `2 images`."""
    return f"{number:,} {one if number == 1 else many}"


def flatten(tree: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (keys from the root, value) for every value in the nested mappings of `tree` that is not one itself."""
    if not isinstance(tree, Mapping):
        yield path, tree
        return
    for key, value in tree.items():
        yield from flatten(value, *path, str(key))
