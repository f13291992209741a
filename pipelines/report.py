"""Write the report of a study: python -m pipelines.report --study runs/NAME."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_platform.evaluation.report import write_report
from pipelines.command import run_command

if TYPE_CHECKING:
    from cxr_platform.manifest.store import Manifest


def main(argv: Sequence[str] | None = None) -> int:
    """Check the study's predictions, write `results.json` and `report/`, name the winner; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.report", description=__doc__)
    parser.add_argument("--study", type=Path, required=True, metavar="runs/NAME", help="the folder of a study")
    parser.add_argument("--manifest", type=Path, help="also check that exactly this manifest's study images are scored")
    arguments = parser.parse_args(argv)
    return run_command(lambda: write_and_tell(arguments.study, arguments.manifest))


def write_and_tell(study: Path, manifest: Path | None = None) -> int:
    """Write the report of `study` and print where it is and who won; returns 0."""
    page = write_report(study, lambda step: print(f"{step} …", file=sys.stderr), _opened(manifest))
    winner = json.loads((page.parent / "results.json").read_text(encoding="utf-8"))["winner"]
    print(page)
    print(winner["line"])
    return 0


def _opened(folder: Path | None) -> "Manifest | None":
    if folder is None:
        return None
    from cxr_platform.manifest.store import open_manifest

    return open_manifest(folder)


if __name__ == "__main__":
    sys.exit(main())
