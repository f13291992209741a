"""The rule by which a server decides, in one place: what judges it and what serves it must not differ by an image."""

from typing import Any

Zone = tuple[float, float]
"""Both ends from 0 to 1, the lower first."""


def is_positive(covid19: Any, zone: Zone) -> Any:
    """Whether a Covid19 probability, or each of an array of them, is called positive: from the zone's upper end on."""
    return covid19 >= zone[1]


def is_negative(covid19: Any, zone: Zone) -> Any:
    """Whether it is called negative: below the zone's lower end. What is neither is indeterminate."""
    return covid19 < zone[0]
