"""Run a finished study again as a job on several nodes and compare the predictions; not part of the tests.

    python -m tests.cluster.quick_study --study runs/NAME --nodes 2 3

Each node has an address, one processor and a cache of its own (`hosts`). With --store, manifest and study are in an
object store (moto) on a machine beside them. Prints, for each number of nodes: the trials each node ran, what it
received over its network and used of its cache, and by how much the pooled predictions differ. --json writes the same
for `cxr benchmark page`.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from cxr_platform.domain.study import CacheUse, read_study, total_cache_use
from cxr_platform.manifest.store import open_manifest
from cxr_platform.storage.trial_files import read_trials
from cxr_platform.training.study_need import GIB, study_need
from pipelines.benchmarks import write_result
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
    parser.add_argument("--imagenet-weights", type=Path, help="file of the ImageNet weights")
    parser.add_argument("--json", type=Path, help="also write the result, with hardware and versions")
    arguments = parser.parse_args()
    study = read_study(arguments.study)
    manifest = open_manifest(arguments.manifest or Path("data/manifests") / study.manifest.path)
    size, strategies = study.profile.model.input_size, arguments.strategies or list(study.strategies)
    need = study_need(study.profile, strategies, manifest.info.images, 1)
    result = {
        **{"images": manifest.info.images, "input_size": size, "folds": study.folds, "store": arguments.store},
        **{"image_mb": manifest.info.images * size**2 / MB, "activation_mb": need.activations * GIB / MB},
    }
    print(f"Images: {result['image_mb']:.1f} MB at {size} px, activations: {result['activation_mb']:.1f} MB")
    runs = []
    for nodes in arguments.nodes:
        with tempfile.TemporaryDirectory() as work:
            runs.append(compare(arguments, strategies, manifest.folder, nodes, Path(work)))
    if arguments.json:
        write_result(arguments.json, "cluster", {**result, "runs": runs})


def compare(
    arguments: argparse.Namespace, strategies: list[str], manifest: Path, nodes: int, work: Path
) -> dict[str, Any]:
    weights = str(arguments.imagenet_weights or imagenet_weights())
    more = ["--strategies", ",".join(strategies), "--imagenet-weights", weights, "--no-report"]
    with hosts(nodes + 1 + arguments.store, ENVIRONMENT) as made:
        places = [manifest.resolve(), work / "out"]
        if arguments.store:
            serve_objects(made.pop(), work / "store.log")
            copy(made[0], f"put('{places[0]}', 's3://{BUCKET}/manifest', recursive=True)")
            places = [f"s3://{BUCKET}/manifest", f"s3://{BUCKET}/out"]
        named = ["--manifest", places[0], "--storage", places[1], "--profile", arguments.profile, "--name", "q"]
        start_cluster(made, work)
        before, began = {host.name: received(host) for host in made}, time.monotonic()
        if submit(made[0], work / "log", "cross_validate", *named, *more).wait():
            raise SystemExit((work / "log").read_text())
        seconds = time.monotonic() - began
        if arguments.store:
            copy(made[0], f"get('{places[1]}/runs', '{work}/out/runs', recursive=True)")
        megabytes = {host.name: (received(host) - before[host.name]) / MB for host in made[1:]}
    trials = read_trials(work / "out" / "runs" / "q", read_study(work / "out" / "runs" / "q").trials())
    print(f"\n{nodes} nodes: {len(trials)} trials in {seconds:.0f} s")
    rows = []
    for name, count in megabytes.items():
        ran = [trial for trial in trials.values() if trial is not None and trial.node == name]
        use = total_cache_use(ran) or CacheUse()
        print(f"  {name}: {len(ran)} trials, {count:.1f} MB received; cache: {use}")
        counted = {"hits": use.hits, "misses": use.misses, "evictions": use.evictions}
        rows.append(
            {"name": f"node {len(rows) + 1}", "trials": len(ran), "megabytes": count}
            | {"fetched_mb": use.fetched_bytes / MB, **counted}
        )
    there, here = (predictions(place, strategies) for place in (work / "out" / "runs" / "q", arguments.study))
    keys = ["strategy", "image_id", "fold"]
    if there[keys].to_numpy().tolist() != here[keys].to_numpy().tolist():
        raise SystemExit("other images, folds or strategies")
    columns, differences = [name for name in here if name.startswith("p_")], {}
    for strategy in strategies:
        rows_of = here["strategy"] == strategy
        difference = np.abs(there.loc[rows_of, columns].to_numpy() - here.loc[rows_of, columns].to_numpy())
        differences[strategy] = float(difference.max())
        print(f"  {strategy}: {rows_of.sum()} predictions, probabilities differ by at most {difference.max():.2g}")
    return {"received": rows, "seconds": seconds, "differences": differences}


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
