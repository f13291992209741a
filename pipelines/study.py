"""How far a study is, from its files alone: also from another machine, while it runs.

    cxr study status NAME

NAME is that of a study below --runs, or a path. --json is for programs.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from cxr_platform.storage.paths import parse_path
from pipelines.command import run_command
from pipelines.places import RUNS, a_place, add_storage_argument

PIPED_COLUMNS = 120


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 where there is no such study."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _status(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cxr study", description=__doc__.split("\n")[0])
    verbs = parser.add_subparsers(dest="action", required=True)
    status = verbs.add_parser("status", help="trials by state and node, time left, cost")
    status.add_argument("name", metavar="NAME", help="a study below --runs, or the path of one")
    status.add_argument("--runs", type=a_place, default=RUNS, help="where studies are (default: runs)")
    add_storage_argument(status)
    status.add_argument("--json", action="store_true", help="print JSON for a program")
    return parser


def study_root(runs: Path, name: str) -> Path:
    """`runs/name` if there is a study, or else the place `name` if there is one; the first where there is none."""
    places = (runs / name, parse_path(name))
    return next((root for root in places if (root / "study.json").exists()), places[0])


def _status(arguments: argparse.Namespace) -> int:
    from cxr_platform.training.status import read_status

    runs = arguments.storage / "runs" if arguments.storage is not None else arguments.runs
    status = read_status(study_root(runs, arguments.name), datetime.now(timezone.utc))
    if arguments.json:
        import json

        from pipelines.study_tables import plain

        print(json.dumps(plain(status), indent=1, allow_nan=False))
    else:
        from rich.console import Console

        from pipelines.study_tables import status_lines, status_tables

        console = Console(width=None if sys.stdout.isatty() else PIPED_COLUMNS, highlight=False, markup=False)
        for table in status_tables(status):
            console.print(table)
        print("\n".join(status_lines(status)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
