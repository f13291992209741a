"""Log a finished study and its report to MLflow.

    cxr track --study runs/NAME

The default place is the folder mlruns beside the study; `mlflow ui` of the full MLflow package shows it. A study that
has not changed since it was logged is not logged again.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cxr_platform.tracking.mlflow_runs import log_study
from pipelines.command import run_command
from pipelines.local_study import local_copies
from pipelines.options import location, parse_request


@dataclass(frozen=True)
class TrackRequest:
    """A study, and the folder or server of MLflow."""

    study: Path
    tracking_uri: str | None


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, or 2 if there is no such study."""
    return run_command(lambda: run(parse_request(TrackRequest, parser(), argv)))


def parser() -> argparse.ArgumentParser:
    """Return the options of `cxr track`."""
    parser = argparse.ArgumentParser(prog="cxr track", description="Log a finished study and its report to MLflow.")
    parser.add_argument("--study", type=location, required=True, metavar="runs/NAME", help="folder or URI of a study")
    parser.add_argument(
        "--tracking-uri", help="folder or server (default: MLFLOW_TRACKING_URI, or mlruns beside the study)"
    )
    return parser


def run(request: TrackRequest) -> int:
    """Log the study and print the id of its run; return 0."""
    with local_copies(request, "study") as local:
        print(f"Run {log_study(local.study, local.tracking_uri, print)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
