"""Run a finished study again as a job on several nodes and compare the predictions; not part of the tests.

    python -m tests.cluster.quick_study --study runs/NAME --nodes 2 3

Each node has an address, one processor and a cache of its own (`hosts`). With --store, manifest and study are in an
object store (moto) on a machine beside them. Prints, for each number of nodes: the trials each node
ran and what it received over its network, and by how much the pooled predictions differ.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from cxr_platform.domain.study import read_study
from cxr_platform.manifest.store import open_manifest
from tests.cluster.hosts import Host, hosts
from tests.cluster.test_nodes import ENVIRONMENT, imagenet_weights, serve_objects, start_cluster, submit
from tests.storage.object_store import BUCKET

MB = 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--study", type=Path, required=True, help="a finished one of this machine")
    parser.add_argument("--manifest", type=Path, help="its manifest (default: data/manifests/NAME)")
    parser.add_argument("--profile", default="quick", help="that it was run with")
    parser.add_argument("--strategies", nargs="+", help="of it (default: all)")
    parser.add_argument("--nodes", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--store", action="store_true", help="manifest and study in an object store")
    arguments = parser.parse_args()
    study = read_study(arguments.study)
    manifest = open_manifest(arguments.manifest or Path("data/manifests") / study.manifest.path)
    size = study.profile.model.input_size
    print(f"{study.name}: {study.folds} folds, {manifest.info.images} images")
    print(f"Images: {manifest.info.images * size**2 / MB:.1f} MB at {size} px")
    for nodes in arguments.nodes:
        with tempfile.TemporaryDirectory() as work:
            compare(arguments, arguments.strategies or list(study.strategies), manifest.folder, nodes, Path(work))


def compare(arguments: argparse.Namespace, strategies: list[str], manifest: Path, nodes: int, work: Path) -> None:
    more = ["--strategies", ",".join(strategies), "--imagenet-weights", imagenet_weights(), "--no-report"]
    with hosts(nodes + 1 + arguments.store, ENVIRONMENT) as made:
        places = [manifest.resolve(), work / "out"]
        if arguments.store:
            serve_objects(made.pop(), work / "store.log")
            copy(made[0], f"put('{places[0]}', 's3://{BUCKET}/manifest', recursive=True)")
            places = [f"s3://{BUCKET}/manifest", f"s3://{BUCKET}/out"]
        named = ["--manifest", places[0], "--storage", places[1], "--profile", arguments.profile, "--name", "q"]
        start_cluster(made, work)
        before = {host.name: received(host) for host in made}
        if submit(made[0], work / "log", "cross_validate", *named, *more).wait():
            raise SystemExit((work / "log").read_text())
        if arguments.store:
            copy(made[0], f"get('{places[1]}/runs', '{work}/out/runs', recursive=True)")
        megabytes = {host.name: (received(host) - before[host.name]) / MB for host in made[1:]}
    files = list((work / "out").glob("runs/q/trials/*/fold-*/trial.json"))
    ran = Counter(json.loads(file.read_text())["node"] for file in files)
    print(f"\n{nodes} nodes: {len(files)} trials")
    for name, count in megabytes.items():
        print(f"  {name}: {ran[name]} trials, {count:.1f} MB received")
    there, here = (predictions(place, strategies) for place in (work / "out" / "runs" / "q", arguments.study))
    keys = ["strategy", "image_id", "fold"]
    if there[keys].to_numpy().tolist() != here[keys].to_numpy().tolist():
        raise SystemExit("other images, folds or strategies")
    columns = [name for name in here if name.startswith("p_")]
    for strategy in strategies:
        rows = here["strategy"] == strategy
        difference = np.abs(there.loc[rows, columns].to_numpy() - here.loc[rows, columns].to_numpy())
        print(f"  {strategy}: {rows.sum()} predictions, probabilities differ by at most {difference.max():.2g}")


def copy(host: Host, call: str) -> None:
    """Run a method of s3fs on `host`."""
    done = host.run(sys.executable, "-c", f"import s3fs; s3fs.S3FileSystem().{call}")
    if done.returncode:
        raise SystemExit(done.stderr)


def predictions(study: Path, strategies: list[str]) -> pd.DataFrame:
    table = pq.read_table(study / "predictions.parquet").to_pandas()
    table = table[table["strategy"].isin(strategies)]
    return table.sort_values(["strategy", "image_id"]).reset_index(drop=True)


def received(host: Host) -> int:
    """Bytes that came to it from other machines so far."""
    return int(host.run("cat", "/sys/class/net/eth0/statistics/rx_bytes").stdout)


if __name__ == "__main__":
    main()
