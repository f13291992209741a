"""The commands that check the code: `make check` and the hooks of pre-commit."""

import re

import yaml

from tests.conftest import REPOSITORY


def test_advisories_that_the_audit_leaves_out_are_explained_for_the_locked_versions() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    security = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
    left_out = re.search(r"^EXPLAINED = (.+)$", makefile, re.MULTILINE)
    assert left_out is not None
    table = security[security.index("## Dependencies with known advisories") :]
    assert sorted(left_out[1].split()) == sorted(re.findall(r"(?:CVE|GHSA)-[\w-]+", table))
    for name, version, lock in re.findall(r"^\| (\S+) (\S+) \(`(\S+)`\) \|", table, re.MULTILINE):
        assert f"\n{name}=={version} " in (REPOSITORY / lock).read_text(encoding="utf-8"), "its row is out of date"


def test_pre_commit_runs_the_checks_of_the_makefile() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^check: .*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe is not None
    checks = [line.strip().replace("$(VENV)", ".venv") for line in recipe[1].splitlines()]
    config = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (repository,) = config["repos"]
    assert repository["repo"] == "local", "no hook is downloaded"
    assert [hook["entry"] for hook in repository["hooks"]] == checks
