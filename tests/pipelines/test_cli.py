import importlib

import pytest

from pipelines import cli


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in cli.VERBS)
    assert "not for diagnosis" in text


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_is_a_module_with_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    importlib.import_module(f"pipelines.{verb.replace('-', '_')}")
    with pytest.raises(SystemExit) as ended:
        cli.main([verb, "--help"])
    assert ended.value.code == 0
    assert "usage" in capsys.readouterr().out


def test_an_unknown_verb_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trane"]) == 2
    assert "'trane'" in capsys.readouterr().err


def test_no_verb_is_exit_code_2() -> None:
    assert cli.main([]) == 2
