"""infra/slurm/study.sbatch with stand-ins for Slurm's programs, which print what they were given."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from ray.scripts.symmetric_run import curate_and_validate_ray_start_args

from tests.conftest import REPOSITORY
from tests.infra.entrypoints import parse

FILE = REPOSITORY / "infra" / "slurm" / "study.sbatch"
SRUN = """#!/bin/sh
case "$*" in *" rm -rf "*) printf '%s\\n' "$@" > "$REMOVED"; exit 3 ;; esac
printf '%s\\n' "$RAY_ADDRESS" "$RAY_AUTH_MODE" "$RAY_AUTH_TOKEN" "$PATH" "$CXR_CACHE" "$@"
exit "${OUTCOME:-0}"
"""
SCONTROL = "#!/bin/sh\n[ \"$*\" = 'show hostnames n[1-3]' ] && printf 'n1\\nn2\\nn3\\n'\n"


@pytest.fixture
def allocation(tmp_path: Path) -> dict[str, str]:
    """The environment of a batch script on three nodes."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    slurm = {
        "SLURM_SUBMIT_DIR": str(REPOSITORY),
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "n[1-3]",
        "SLURM_JOB_NUM_NODES": "3",
        "SLURM_CPUS_PER_TASK": "16",
        "REMOVED": str(tmp_path / "removed"),
    }
    others = {name: value for name, value in os.environ.items() if name != "CXR_CACHE"}
    return {**others, "PATH": f"{tmp_path}:{os.environ['PATH']}", **slurm}


def submitted(environment: dict[str, str], *options: str, outcome: int = 0) -> list[str]:
    environment = {**environment, "OUTCOME": str(outcome)}
    done = subprocess.run([FILE, *options], env=environment, capture_output=True, text=True)
    assert done.returncode == outcome, done.stderr
    return done.stdout.splitlines()


def test_the_study_runs_on_the_first_node_of_a_ray_cluster_of_all(allocation: dict[str, str]) -> None:
    options = ("--profile", "paper", "--data", "/shared/images of ours", "--storage", "/shared/studies")
    address, mode, token, path, _, *command = submitted(allocation | {"SLURM_GPUS_ON_NODE": "4"}, *options)
    assert address == "n1:24711"
    assert (mode, len(token)) == ("token", 64)
    assert path.startswith(f"{REPOSITORY}/.venv/bin:")
    separator = command.index("--")
    assert command[:4] == ["--kill-on-bad-exit=1", "--cpus-per-task=16", "ray", "symmetric-run"]
    words = command[4:separator]
    assert words[:4] == ["--address", address, "--min-nodes", "3"]
    rest = curate_and_validate_ray_start_args(words)
    assert rest == ["--num-cpus", "16", "--num-gpus", "4", "--temp-dir", "/tmp/cxr-ray-4711"]
    arguments = parse(command[separator + 1 :])
    assert (arguments.profile, *map(str, arguments.data), str(arguments.storage)) == options[1::2]


def test_each_job_has_a_token_of_its_own_and_a_node_may_have_no_gpu(allocation: dict[str, str]) -> None:
    first, second = (submitted(allocation, "--manifest", "m") for _ in range(2))
    assert first[2] != second[2]
    assert first[first.index("--num-gpus") + 1] == "0"


@pytest.mark.parametrize("outcome", [0, 1])
def test_the_folders_of_the_job_are_removed_from_every_node_and_the_outcome_is_that_of_the_study(
    allocation: dict[str, str], outcome: int
) -> None:
    cache = submitted(allocation, "--manifest", "m", outcome=outcome)[4]
    assert cache == "/tmp/cxr-cache-4711"
    words = Path(allocation["REMOVED"]).read_text().splitlines()
    assert words == ["--ntasks-per-node=1", "rm", "-rf", "--", "/tmp/cxr-ray-4711", cache]


def test_a_named_cache_is_used_and_stays(allocation: dict[str, str]) -> None:
    assert submitted(allocation | {"CXR_CACHE": "/scratch/ours"}, "--manifest", "m")[4] == "/scratch/ours"
    assert "/scratch/ours" not in Path(allocation["REMOVED"]).read_text()


def test_outside_slurm_it_says_how_to_submit_it() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    done = subprocess.run([FILE], env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "submit this file with sbatch" in done.stderr


def test_the_example_of_the_file_is_valid_and_one_task_a_node_is_asked_for() -> None:
    text = FILE.read_text(encoding="utf-8")
    (example,) = re.findall(r"^#   sbatch infra/slurm/study.sbatch (.+)$", text, re.MULTILINE)
    assert parse(["python", "-m", "pipelines.cross_validate", *example.split()]).profile == "paper"
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", text, re.MULTILINE))
    assert asked["ntasks-per-node"] == "1", "ray symmetric-run starts one Ray node for each task"
