"""Benchmarks of `cxr benchmark`: the platform beside simple baselines, in one run on one machine."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cxr_platform.storage.files import write_json
from cxr_platform.training.devices import hardware, package_versions


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
