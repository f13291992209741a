"""Log a finished study and its report to MLflow: cxr track --study runs/NAME.

Without --tracking-uri it is the folder mlruns beside the study; `mlflow ui` (of the whole MLflow, not the client
alone) shows it. Logged again, a study that has not changed is left alone.
"""

import argparse
from collections.abc import Sequence

from cxr_platform.tracking.log import log_study
from pipelines.command import run_command
from pipelines.places import a_place, at_hand


def main(argv: Sequence[str] | None = None) -> int:
    """Log the study and print the id of its run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="cxr track", description=__doc__.split("\n")[0])
    parser.add_argument("--study", type=a_place, required=True, metavar="runs/NAME", help="the folder of a study")
    parser.add_argument("--tracking-uri", help="a folder or a server (default: MLFLOW_TRACKING_URI, then runs/mlruns)")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _track(arguments))


def _track(arguments: argparse.Namespace) -> int:
    with at_hand(arguments, "study") as local:
        print(f"Run {log_study(local.study, local.tracking_uri, print)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
