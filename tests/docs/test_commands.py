"""Every command in README, CONTRIBUTING and docs/ exists, with the arguments that are shown."""

import importlib
import re
import subprocess

import pytest

from pipelines.cli import VERBS
from tests.conftest import REPOSITORY
from tests.docs.commands import PAGES, all_commands, commands, words_of

PLACEHOLDERS = {"VERB", "NAME", "FOLDER", "URI", "HEAD"}
KNOWN = {"make", "cxr", "curl", "prometheus", "ray", "docker", "kubectl", "export", "source", ".venv/bin/uv"}
KNOWN |= {".ci/run", ".venv/bin/python", ".venv/bin/pre-commit", "serve", "infra/gpu/pack.sh", "infra/gpu/run.sh"}


def parse(verb: str, arguments: list[str]) -> None:
    """Give `arguments` to the parser of a verb; SystemExit where it does not take them."""
    module = importlib.import_module(f"pipelines.{verb.replace('-', '_')}")
    module.parser().parse_args(arguments)


def test_there_are_commands_on_the_pages() -> None:
    assert len(all_commands("make")) > 10
    assert len(all_commands("cxr")) > 10


@pytest.mark.parametrize(("page", "command"), all_commands("cxr"))
def test_a_verb_takes_the_arguments_that_are_shown(page: str, command: str) -> None:
    _, verb, *arguments = words_of(command)
    if verb in PLACEHOLDERS or verb == "--help" or "…" in arguments:
        return
    assert verb in VERBS, f"{page}: {command}"
    if arguments and arguments != ["--help"] and not _is_name_only(arguments):
        parse(verb, arguments)


def _is_name_only(arguments: list[str]) -> bool:
    """True for `cxr registry` and the like in a sentence, which name a verb and show no whole command."""
    return all(re.fullmatch(r"[a-z]+(/[a-z]+)*", word) for word in arguments) and len(arguments) == 1


@pytest.mark.parametrize(("page", "command"), all_commands("make"))
def test_a_target_of_make_exists(page: str, command: str) -> None:
    words = [word for word in words_of(command)[1:] if "…" not in word]
    targets = [word for word in words if "=" not in word and not word.startswith("-")]
    done = subprocess.run(["make", "-n", *words], cwd=REPOSITORY, capture_output=True, text=True)
    assert targets, f"{page}: {command}"
    assert done.returncode == 0, f"{page}: {command}: {done.stderr}"


def test_no_page_shows_another_program_unnoticed() -> None:
    shown = {words_of(command)[0] for page in PAGES for command in commands(page) if words_of(command)}
    assert shown - KNOWN == set()


@pytest.mark.parametrize("line", ["--polices x", "--data"])
def test_an_argument_that_does_not_exist_would_be_seen(line: str) -> None:
    with pytest.raises(SystemExit):
        parse("manifest", line.split())
