"""Benchmarks of `cxr benchmark`: the platform beside simple baselines, in one run on one machine."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from cxr_platform.errors import ConfigError
from cxr_platform.storage.files import write_atomically, write_json
from cxr_platform.training.devices import hardware, package_versions

Part = TypeVar("Part")

NOTES = "## Notes"
"""Heading of the notes by hand at the end of a page."""


def write_result(file: Path, benchmark: str, result: Mapping[str, Any], **versions: str) -> None:
    """Write the result of a benchmark as JSON, with the date (UTC), the hardware and the versions of the measurement.

    `versions` are further ones than those of `package_versions`.
    """
    machine = {"hardware": hardware().model_dump(mode="json"), "versions": package_versions() | versions}
    date = datetime.now(timezone.utc).date().isoformat()
    write_json(file, {"benchmark": benchmark, "date": date, **machine, **result})


def markdown_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, without a line break at its end."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heading, ["---"] * len(heading), *rows))


def complete(file: Path, result: Any, written: Mapping[str, Callable[[dict[str, Any]], Part]]) -> Part:
    """Return what `written` makes of the JSON of a benchmark; raise `ConfigError` if it lacks anything."""
    try:
        return written[result["benchmark"]](result)
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        received = f"{type(error).__name__}: {error}"
        raise ConfigError(f"Expected a complete result of this version in {file}.", received=received) from error


def write_page_text(file: Path, text: str) -> None:
    """Write a page, and keep the notes by hand at the end of the one that `file` has."""
    notes = ""
    if file.exists():
        _, found, notes = file.read_text(encoding="utf-8").partition(f"\n{NOTES}\n")
        notes = f"\n{NOTES}\n{notes}" if found else ""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, (text + notes).encode())
