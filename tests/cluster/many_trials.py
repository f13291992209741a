"""Run `cxr benchmark trials` on several nodes, each with an address of its own; not part of the tests.

    python -m tests.cluster.many_trials --trials 400 --nodes 3

Each node has one processor (`hosts`); its trials sleep, so that one processor of the real machine serves several.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.cluster.hosts import GCS, hosts
from tests.cluster.test_nodes import ENVIRONMENT, start_cluster


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--trials-per-cpu", type=float, default=1.0, help="trials at once on a node (default: 1)")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the result")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work, hosts(arguments.nodes + 1, ENVIRONMENT) as made:
        start_cluster(made, Path(work))
        length = ["--trials", str(arguments.trials), "--seconds", str(arguments.seconds)]
        length += ["--trials-per-cpu", str(arguments.trials_per_cpu)]
        where = ["--ray-address", f"{made[0].address}:{GCS}", "--work", f"{work}/studies"]
        file = ["--json", str(arguments.json.absolute())] if arguments.json else []
        done = made[0].run(sys.executable, "-m", "pipelines.benchmark", "trials", *length, *where, *file)
        print(done.stdout)
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])


if __name__ == "__main__":
    main()
