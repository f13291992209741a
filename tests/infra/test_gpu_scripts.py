import os
import re
import subprocess
from pathlib import Path

from pipelines import gpu_study
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "infra" / "gpu"


def test_the_study_is_run_with_the_packed_files_and_further_options(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$KERAS_BACKEND" "$@"\n')
    python.chmod(0o755)
    command = [FOLDER / "run.sh", tmp_path, tmp_path / "out", "--seconds", "560", "--skip-benchmark"]
    environment = {**os.environ, "PYTHON": str(python)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    *_, last = done.stdout.splitlines()
    backend, *words = last.split()
    assert (backend, words[:2]) == ("jax", ["-m", "pipelines.gpu_study"])
    values = gpu_study.parser().parse_args(words[2:])
    assert (values.images, values.imagenet_weights) == (tmp_path / "images.parquet", tmp_path / "weights.h5")
    assert (values.out, values.seconds, values.profile) == (tmp_path / "out", 560.0, "paper")


def test_the_wheels_that_jax_does_not_bring_are_downloaded_by_the_hashes_of_the_stack(tmp_path: Path) -> None:
    python, weights, packed = tmp_path / "python", tmp_path / "weights", tmp_path / "packed"
    python.write_text('#!/bin/sh\nfor last; do :; done\n[ "$2" != pip ] || { cp "$last" "$ASKED"; echo "$@"; }\n')
    python.chmod(0o755)
    weights.touch()
    environment = {**os.environ, "PYTHON": str(python), "ASKED": str(tmp_path / "asked")}
    command = [FOLDER / "pack.sh", tmp_path, weights, packed]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "--require-hashes" in done.stdout
    pinned = re.findall(r"^(\S+)==.*\\\n +--hash=sha256:\w{64}", (tmp_path / "asked").read_text(), re.MULTILINE)
    (names,) = re.findall(r'^names="(.+)"$', (FOLDER / "pack.sh").read_text(), re.MULTILINE)
    assert pinned == sorted(names.split()), "each is in the lock, with hashes"


def test_missing_arguments_are_a_usage_error() -> None:
    for name in ("run.sh", "pack.sh"):
        done = subprocess.run([FOLDER / name], capture_output=True, text=True)
        assert (done.returncode, done.stderr.startswith("usage: infra/gpu/")) == (2, True)
