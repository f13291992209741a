"""One part of the report: what a topic has to say, in words, tables and pictures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cxr_platform.evaluation.canvas import Picture
from cxr_platform.evaluation.table import Table


@dataclass(frozen=True)
class Section:
    """`lead` are sentences that come first; `absent` says why there is nothing to show, where that is so.

    `pictures` and `tables` are shown in their order, `folded` tables behind a disclosure. `warnings` stand out.
    `values` go into results.json under `name`: plain JSON values, rates in percent, undefined as `None`.
    """

    name: str
    title: str
    lead: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[Table, ...] = ()
    warnings: tuple[str, ...] = ()
    absent: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
