import os
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

from pipelines import gpu_study
from tests.conftest import REPOSITORY
from tests.waiting import wait_until

FOLDER = REPOSITORY / "infra" / "gpu"


def test_the_study_is_run_with_the_packed_files_and_further_options(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$1" = - ] || echo "$PWD" "$PYTHONPATH" "$KERAS_BACKEND" "$@"\n')
    python.chmod(0o755)
    command = [FOLDER / "run.sh", "packed", "out", "--seconds", "560", "--resume", "progress.tar.gz"]
    environment = {**os.environ, "PYTHON": str(python)}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    *_, last = done.stdout.splitlines()
    folder, path, backend, *words = last.split()
    assert (backend, words[:2]) == ("jax", ["-m", "pipelines.gpu_study"])
    assert path.split(":")[1] == str(REPOSITORY)
    values = gpu_study.parser().parse_args(words[2:])
    files = (values.images, values.imagenet_weights, values.out, values.resume)
    assert [Path(folder) / file for file in files] == [
        tmp_path / name for name in ("packed/images.parquet", "packed/weights.h5", "out", "progress.tar.gz")
    ]
    assert (values.seconds, values.profile) == (560.0, "paper")


def names_of(script: str, variable: str) -> set[str]:
    """The packages that a script names."""
    (names,) = re.findall(rf'^{variable}="(.+)"$', (FOLDER / script).read_text(), re.MULTILINE)
    return set(names.split())


def test_packages_that_the_machine_lacks_are_named_before_anything_starts(tmp_path: Path) -> None:
    """With a Python that has no packages."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    python.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(python)}
    done = subprocess.run([FOLDER / "run.sh", tmp_path, "out"], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert set(line.partition("lacks: ")[2].split()) == names_of("run.sh", "need")


def test_all_that_keras_requires_is_packed_or_asked_of_the_machine() -> None:
    required = {re.split(r"[^\w-]", line)[0] for line in requires("keras") or ()}
    asked = names_of("run.sh", "need")
    assert required <= asked | names_of("pack.sh", "names")
    assert f"{', '.join(f'`{name}`' for name in sorted(asked))}." in (REPOSITORY / "docs/how-to/gpu.md").read_text()


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
    assert pinned == sorted(names_of("pack.sh", "names")), "each is in the lock, with hashes"


def test_a_signal_to_the_script_reaches_the_study_and_the_script_waits_for_its_end(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/bash\n[ "$1" = - ] && exit\n[ "$2" = pip ] && exit\n'
        "trap 'sleep 1; echo stored; exit 7' TERM\necho started\nfor _ in {1..6000}; do sleep 0.1; done\n"
    )
    python.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(python)}
    command = [FOLDER / "run.sh", tmp_path, "out"]
    log = tmp_path / "log"
    with log.open("w") as stream, subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=stream) as script:
        try:
            wait_until(lambda: log.read_text() == "started\n", seconds=120)
            script.terminate()
            assert script.wait(120) == 7
        finally:
            script.kill()
    assert log.read_text() == "started\nstored\n"


def test_missing_arguments_are_a_usage_error() -> None:
    for name in ("run.sh", "pack.sh"):
        done = subprocess.run([FOLDER / name], capture_output=True, text=True)
        assert (done.returncode, done.stderr.startswith("usage: infra/gpu/")) == (2, True)
