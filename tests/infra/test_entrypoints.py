"""The commands in the texts of infra/."""

import pytest

from tests.conftest import REPOSITORY
from tests.infra.entrypoints import commands, parse

FILES = ("README.md", "ray/cluster.yaml")
TYPED = [words for name in FILES for words in commands((REPOSITORY / "infra" / name).read_text(encoding="utf-8"))]


def test_the_texts_have_commands_of_three_verbs() -> None:
    assert {words[2] for words in TYPED} == {
        "pipelines.champion",
        "pipelines.cross_validate",
        "pipelines.registry",
    }


@pytest.mark.parametrize("words", TYPED, ids=" ".join)
def test_a_verb_accepts_every_command_in_the_texts(words: list[str]) -> None:
    parse(words)


def test_a_wrong_verb_or_option_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError):
        parse(["python", "-m", "pipelines.crossvalidate"])
    with pytest.raises(SystemExit):
        parse(["python", "-m", "pipelines.exporter", "--prot", "1"])
    assert "--prot" in capsys.readouterr().err
