import importlib
import subprocess
import sys

import pytest

from pipelines import cli
from tests.conftest import REPOSITORY


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in cli.VERBS)
    assert "not for diagnosis" in text


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_a_parser_and_a_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(f"pipelines.{verb.replace('-', '_')}")
    assert module.parser().prog == f"cxr {verb}"
    with pytest.raises(SystemExit) as ended:
        cli.main([verb, "--help"])
    assert ended.value.code == 0
    assert "usage" in capsys.readouterr().out


def test_an_unknown_verb_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trane"]) == 2
    assert "'trane'" in capsys.readouterr().err


def test_no_verb_is_exit_code_2() -> None:
    assert cli.main([]) == 2


def test_the_list_of_verbs_imports_nothing_else() -> None:
    code = "import sys; from pipelines.cli import main; main(['--help']); "
    code += "print([name for name in sys.modules if name.split('.')[0] in ('cxr_platform', 'numpy', 'pandas', 'ray')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
