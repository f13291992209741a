"""What a report consists of before it is written: words, tables and pictures, each under a name of its own."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from cxr_platform.evaluation.canvas import Picture
from cxr_platform.evaluation.compute import Compute
from cxr_platform.evaluation.findings import Findings
from cxr_platform.evaluation.section import Section
from cxr_platform.evaluation.study_results import Outcome
from cxr_platform.evaluation.summary import Answer, answer
from cxr_platform.evaluation.table import Table

FILE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True, eq=False)
class Contents:
    """`tables` and `pictures` are those beside the sections': the paper's tables, accuracy, confusion matrices.

    Raises `ValueError` where two sections, tables or pictures share a name, or one is not fit for a file.
    """

    outcome: Outcome
    findings: Findings
    tables: Mapping[str, Table]
    pictures: Sequence[Picture]
    sections: Sequence[Section]
    compute: Compute

    def __post_init__(self) -> None:
        _check("section", (section.name for section in self.sections))
        _check("table", (table.name for table in self.all_tables))
        _check("picture", (picture.name for picture in self.all_pictures))

    @cached_property
    def answer(self) -> Answer:
        """The first lines."""
        return answer(self.outcome, self.findings)

    @property
    def all_tables(self) -> list[Table]:
        """Every table, each of which becomes two files."""
        return [*self.tables.values(), *(t for section in self.sections for t in (*section.tables, *section.folded))]

    @property
    def all_pictures(self) -> list[Picture]:
        """Every picture, each of which becomes a PNG."""
        return [*self.pictures, *(picture for section in self.sections for picture in section.pictures)]


def _check(kind: str, names: Iterator[str]) -> None:
    counted = Counter(names)
    doubled = [name for name, n in counted.items() if n > 1]
    unfit = [name for name in counted if not FILE_NAME.fullmatch(name)]
    if doubled or unfit:
        raise ValueError(f"Expected one {kind} a name, in small letters. Received: {', '.join(doubled + unfit)}.")
