"""The commands that check the code: `make check` and the hooks of pre-commit."""

import re

import yaml

from tests.conftest import REPOSITORY


def test_pre_commit_runs_the_checks_of_the_makefile() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^check: .*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe is not None
    checks = [line.strip().replace("$(VENV)", ".venv") for line in recipe[1].splitlines()]
    config = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (repository,) = config["repos"]
    assert repository["repo"] == "local", "no hook is downloaded"
    assert [hook["entry"] for hook in repository["hooks"]] == checks
