"""A study as a job on several Ray nodes, each with an address of its own, with and without losses of nodes.

Images, manifest and study are in a folder that all nodes see.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from cxr_platform.errors import WeightsError
from cxr_platform.models.weights import find_weights
from pipelines import phantoms
from tests.cluster.hosts import GCS, JOBS, SESSIONS, SUBNET, Host, hosts, need_hosts, start_ray, wait_for_nodes
from tests.conftest import REPOSITORY
from tests.pipelines.small_study import SMALL
from tests.storage.object_store import BUCKET, CREDENTIALS, SERVER
from tests.waiting import wait_until

pytestmark = pytest.mark.ray

TOKEN = "0123456789abcdef" * 3
STORE = f"http://{SUBNET}.5:5000"
ENVIRONMENT = {
    **{"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0"},
    "RAY_health_check_period_ms": "1000",  # between two questions to a node; each may still take Ray's 10 s
    **{"AWS_ENDPOINT_URL": STORE, **CREDENTIALS},
    "CXR_CACHE": f"{SESSIONS}/cache",  # each machine has its own folder there
}
BOTH = "scratch,off-the-shelf"
PROFILE = f"""
folds = 3
{SMALL}
off_the_shelf = {{ epochs = 2, learning_rate = 0.001 }}
fine_tuning = {{ epochs = 2, learning_rate = 0.001 }}
scratch = {{ epochs = EPOCHS, learning_rate = 0.001 }}
[resources]
cpu = 1.0
retries = 3
checkpoint_seconds = 0.0
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and profiles that all nodes see."""
    shared = tmp_path_factory.mktemp("shared")
    (shared / "long.toml").write_text(PROFILE.replace("EPOCHS", "16"))
    (shared / "rarely.toml").write_text((shared / "long.toml").read_text().replace("seconds = 0.0", "seconds = 5.0"))
    (shared / "never-again.toml").write_text((shared / "long.toml").read_text().replace("retries = 3", "retries = 0"))
    assert phantoms.main(["--out", str(shared / "images"), "--per-class", "9", "--seed", "3", "--size", "224"]) == 0
    shutil.copyfile(imagenet_weights(), shared / "imagenet.h5")  # the machines have no network
    return shared


def imagenet_weights() -> Path:
    """The published weights, from beside the checkout, a cache or a download; skips if there are none."""
    beside = sorted((REPOSITORY.parent / "shared" / "weights").glob("*_1.0_224_no_top.h5"))
    try:
        return find_weights(1.0, beside[0] if beside else None)
    except WeightsError as error:
        pytest.skip(f"no ImageNet weights are available: {error}")


@pytest.fixture(scope="module")
def undisturbed(shared: Path) -> pd.DataFrame:
    """Predictions of the study on one machine.

    In a process of its own: in this one, earlier tests have set TensorFlow's number of threads, which determines the
    order of its sums. After a few steps of `scratch` with batches of 16 this changes probabilities by 0.01 and more.
    """
    words = [str(word) for word in study_of(shared, "undisturbed", "long", BOTH)[1:]]
    command = [sys.executable, "-m", "pipelines.cross_validate", *words, "--engine", "local"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return predictions(shared, "undisturbed")


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    """A head without processors, two nodes with one processor each, and a spare machine.

    A fifth machine, which is not returned, serves an S3 API.
    """
    need_hosts()
    with hosts(5, ENVIRONMENT) as made:
        logs = tmp_path_factory.mktemp("logs")
        serve_objects(made.pop(), logs / "store.log")
        start_cluster(made[:3], logs)
        yield made


def serve_objects(host: Host, log: Path) -> None:
    host.popen(sys.executable, "-c", SERVER.format(host.address, 5000), log=log)
    make = f"import s3fs; s3fs.S3FileSystem().mkdir('{BUCKET}')"
    wait_until(lambda: host.run(sys.executable, "-c", make).returncode == 0, seconds=300)


def start_cluster(machines: list[Host], logs: Path, port: int = GCS) -> None:
    head, *others = machines
    start_ray(head, head, logs / f"{head.name}.log", 0, port)
    wait_for_nodes(head, 1)
    for host in others:
        start_ray(host, head, logs / f"{host.name}.log", 1, port)
    wait_for_nodes(head, len(machines))


def submit(head: Host, log: Path, *arguments: object) -> "subprocess.Popen[bytes]":
    words = [str(word) for word in arguments]
    address = f"http://{head.address}:{JOBS}"
    return head.popen(sys.executable, "-m", "pipelines.submit", "--address", address, *words, log=log)


def study_of(shared: Path, storage: str, profile: str, strategies: str = "scratch") -> list[object]:
    named = ["--data", shared / "images", "--storage", shared / storage, "--profile", shared / f"{profile}.toml"]
    weights = ["--imagenet-weights", shared / "imagenet.h5"]
    return ["cross_validate", *named, *weights, "--name", "t", "--strategies", strategies, "--no-report"]


def predictions(shared: Path, storage: str) -> pd.DataFrame:
    table = pq.read_table(shared / storage / "runs" / "t" / "predictions.parquet").to_pandas()
    return table.sort_values(["strategy", "image_id"]).reset_index(drop=True)


def assert_same(there: pd.DataFrame, here: pd.DataFrame) -> None:
    """The same images, with probabilities that differ by float arithmetic only."""
    assert there["image_id"].tolist() == here["image_id"].tolist()
    columns = [name for name in here if name.startswith("p_")]
    assert np.abs(there[columns].to_numpy() - here[columns].to_numpy()).max() < 1e-3


def files_of(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def trials(shared: Path, storage: str) -> list[dict[str, object]]:
    return [json.loads(file.read_text()) for file in (shared / storage).glob("runs/t/trials/*/fold-*/trial.json")]


def test_without_the_token_nothing_is_submitted(machines: list[Host], tmp_path: Path) -> None:
    head = machines[0]
    for mode, token in (("disabled", TOKEN), ("token", "f" * 48)):
        words = ("--address", f"http://{head.address}:{JOBS}", "report", "--study", "x")
        refused = head.run(sys.executable, "-m", "pipelines.submit", *words, RAY_AUTH_MODE=mode, RAY_AUTH_TOKEN=token)
        assert refused.returncode == 2, refused.stdout + refused.stderr
        assert "reached with its token" in refused.stderr


def test_a_job_runs_on_every_node_with_all_results_in_an_object_store(
    machines: list[Host], shared: Path, undisturbed: pd.DataFrame, tmp_path: Path
) -> None:
    head, before = machines[0], files_of(shared)
    copy = f"import s3fs; s3fs.S3FileSystem().put('{shared}/images', 's3://{BUCKET}/images', recursive=True)"
    assert head.run(sys.executable, "-c", copy).returncode == 0
    places = ["--data", f"s3://{BUCKET}/images", "--storage", f"s3://{BUCKET}/out", "--no-report"]
    named = [*places, "--profile", shared / "rarely.toml", "--name", "t", "--strategies", "scratch"]
    job = submit(head, tmp_path / "log", "cross_validate", *named)
    assert job.wait(900) == 0, (tmp_path / "log").read_text()[-3000:]
    assert "Out-of-fold predictions" in (tmp_path / "log").read_text()

    status = head.run(
        sys.executable, "-m", "pipelines.study", "status", "t", "--storage", f"s3://{BUCKET}/out", "--json"
    )
    assert json.loads(status.stdout)["states"]["finished"] == 3, status.stderr
    fetch = f"import s3fs; s3fs.S3FileSystem().get('s3://{BUCKET}/out', '{tmp_path}/out', recursive=True)"
    assert head.run(sys.executable, "-c", fetch).returncode == 0
    files = files_of(tmp_path / "out")
    assert {"manifests/t/manifest.json", "runs/t/study.json", "runs/t/predictions.parquet"} <= files
    assert not [name for name in files if ".run/" in name or name.endswith(".lock") or "/tune/" in name]
    assert files_of(shared) == before
    assert {trial["node"] for trial in trials(tmp_path, "out")} == {machines[1].name, machines[2].name}
    assert_same(predictions(tmp_path, "out"), undisturbed.query("strategy == 'scratch'"))


def test_a_job_that_was_stopped_is_continued_by_the_same_submit(
    machines: list[Host], shared: Path, undisturbed: pd.DataFrame, tmp_path: Path
) -> None:
    head, study = machines[0], study_of(shared, "stopped", "long")
    copy_manifest(shared, "stopped")
    job = submit(head, tmp_path / "log", *study)
    pause_trials(machines, job, tmp_path / "log", lambda: bool(checkpoints(shared, "stopped")))
    (name,) = re.findall(r"^(raysubmit_\w+): python", (tmp_path / "log").read_text(), re.MULTILINE)
    stop = ("--address", f"http://{head.address}:{JOBS}", "--stop", name)
    assert head.run(sys.executable, "-m", "pipelines.submit", *stop).returncode == 0
    continue_trials(machines)
    assert job.wait(600) == 1
    assert not (shared / "stopped" / "runs" / "t" / "predictions.parquet").exists()

    assert submit(head, tmp_path / "again", *study).wait(600) == 0, (tmp_path / "again").read_text()[-3000:]
    assert_same(predictions(shared, "stopped"), undisturbed.query("strategy == 'scratch'"))
    assert any(trial["seconds"]["earlier"] > 0 for trial in trials(shared, "stopped"))  # type: ignore[index]


def test_a_killed_trial_and_a_lost_node_do_not_change_the_study(
    machines: list[Host], shared: Path, undisturbed: pd.DataFrame, tmp_path: Path
) -> None:
    """Both trials continue on another node from their checkpoints, although the profile has no retries."""
    head, lost, other, spare = machines
    copy_manifest(shared, "losses")
    job = submit(head, tmp_path / "log", *study_of(shared, "losses", "never-again", BOTH))
    pause_trials([lost, other], job, tmp_path / "log", lambda: len(checkpoints(shared, "losses")) == 2)
    assert signal_trials([other], signal.SIGKILL)
    lost.kill_all()
    start_ray(spare, head, tmp_path / "spare.log")
    assert job.wait(600) == 0, (tmp_path / "log").read_text()[-3000:]
    assert_same(predictions(shared, "losses"), undisturbed)
    assert sum(trial["seconds"]["earlier"] > 0 for trial in trials(shared, "losses")) >= 2  # type: ignore[index]
    assert not list((shared / "losses").glob("runs/t/trials/*/fold-*.run"))
    machines[1], machines[3] = spare, lost


def test_a_new_head_continues_the_study_of_a_lost_one(
    machines: list[Host], shared: Path, undisturbed: pd.DataFrame, tmp_path: Path
) -> None:
    """The old nodes live for a while and may finish trials that the new cluster has started again."""
    head, *_, spare = machines
    copy_manifest(shared, "headless")
    study = study_of(shared, "headless", "long")
    job = submit(head, tmp_path / "log", *study)
    pause_trials(machines, job, tmp_path / "log", lambda: 0 < len(trials(shared, "headless")) < 3)
    head.kill_all()
    before = {file: file.stat().st_mtime_ns for file in (shared / "headless").glob("runs/t/trials/*/fold-*/trial.json")}
    continue_trials(machines)

    # At another port: Ray looks for its own kind among the processes of the real machine below, which all hosts share.
    start_cluster([head, spare], tmp_path, port=GCS + 1)
    command = ["python", "-m", "pipelines.cross_validate", *map(str, study[1:])]
    address = f"http://{head.address}:{JOBS}"  # this time as Ray's own command does it, for nodes that have the package
    job = head.popen("ray", "job", "submit", "--address", address, "--", *command, log=tmp_path / "again")
    assert job.wait(600) == 0, (tmp_path / "again").read_text()[-3000:]
    output = (tmp_path / "again").read_text()
    kept = re.search(r"(\d) trials to run, (\d) kept", output)
    assert kept is not None, output
    assert int(kept[2]) >= len(before)
    assert "is current" in output
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert_same(predictions(shared, "headless"), undisturbed.query("strategy == 'scratch'"))


def copy_manifest(shared: Path, storage: str) -> None:
    """Place the manifest of the images where a study in `storage` looks for it, so that it is not built again."""
    shutil.copytree(shared / "undisturbed" / "manifests", shared / storage / "manifests")


def checkpoints(shared: Path, storage: str) -> list[Path]:
    """Positions of the trials of `scratch` that are under way."""
    found = (shared / storage).glob("runs/t/trials/scratch/fold-*.run/position.npz")
    return [file for file in found if not (file.parent.with_suffix("") / "trial.json").exists()]


def pause_trials(machines: list[Host], job: "subprocess.Popen[bytes]", log: Path, reached: Callable[[], bool]) -> None:
    """Stop the processes of trials at a moment at which `reached()` holds; those that Ray starts later run."""

    def paused() -> bool:
        if not reached():
            return False
        if signal_trials(machines, signal.SIGSTOP) and reached():
            return True
        continue_trials(machines)
        return False

    wait_until(lambda: paused() or job.poll() is not None, seconds=600, describe=log.read_text)
    assert job.poll() is None, log.read_text()[-3000:]


def continue_trials(machines: list[Host]) -> None:
    """Continue what `pause_trials` has stopped."""
    signal_trials(machines, signal.SIGCONT)


def signal_trials(machines: list[Host], sent: signal.Signals) -> list[int]:
    """Send a signal to the processes in which Ray runs trials on `machines`, and return their ids."""
    processes = [process for host in machines for process in host.processes_of("ray::ImplicitFunc")]
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, sent)
    return processes
