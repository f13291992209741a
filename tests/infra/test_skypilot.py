"""infra/skypilot/study.yaml: its commands, and its keys and types.

SkyPilot is not installed here. The keys and types are typed in by hand: on 27 November 2026 they were compared with
`get_task_schema` and `get_resources_schema` in SkyPilot's sky/utils/schemas.py, commit 00052dfe0d13. The test notices a
change of the file, not one of SkyPilot.
"""

import re
import shlex
import subprocess
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.infra.entrypoints import parse

FILE = REPOSITORY / "infra" / "skypilot" / "study.yaml"
TASK = {"name": str, "workdir": str, "resources": dict, "envs": dict, "setup": str, "run": str}
RESOURCES = {"accelerators": dict, "cpus": str, "memory": str, "disk_size": int, "use_spot": bool}
"""Keys of a task and of its resources that the file uses, with one of the types that SkyPilot accepts for each."""


@pytest.fixture
def task() -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return tree


def test_keys_and_types_are_those_that_were_compared_with_skypilots_schema(task: dict[str, Any]) -> None:
    assert {key: type(value) for key, value in task.items()} == TASK
    assert {key: type(value) for key, value in task["resources"].items()} == RESOURCES
    assert set(task["resources"]["accelerators"].values()) == {1}, "one GPU"
    for size in ("cpus", "memory"):
        assert re.fullmatch(r"\d+\+", task["resources"][size])
    assert all(value is None or isinstance(value, str) for value in task["envs"].values())


def test_the_study_gets_its_places_from_the_environment(task: dict[str, Any]) -> None:
    (line,) = [line for line in task["run"].splitlines() if line.startswith("python -m")]
    values = {"PROFILE": "paper", "IMAGES": "s3://bucket/images", "STORAGE": "s3://bucket/studies"}
    words = [values.get(word.lstrip("$"), word) for word in shlex.split(line)]
    arguments = parse(words)
    assert (arguments.profile, *map(str, arguments.data), str(arguments.storage)) == tuple(values.values())
    assert set(task["envs"]) == values.keys()


def test_the_example_sets_every_variable_without_a_default(task: dict[str, Any]) -> None:
    text = FILE.read_text(encoding="utf-8")
    (example,) = re.findall(r"^#   sky jobs launch infra/skypilot/study.yaml (.+)$", text, re.MULTILINE)
    given = {word.partition("=")[0] for word in shlex.split(example) if "=" in word}
    assert given == {name for name, value in task["envs"].items() if value is None}


@pytest.mark.parametrize("part", ["setup", "run"])
def test_the_shell_accepts_the_commands(task: dict[str, Any], part: str) -> None:
    done = subprocess.run(["bash", "-n"], input=task[part], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_setup_is_a_target_of_the_makefile(task: dict[str, Any]) -> None:
    assert "make setup CUDA=12" in task["setup"]
    assert re.search(r"^setup:", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
