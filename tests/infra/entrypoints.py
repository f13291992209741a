"""Commands `python -m pipelines.VERB …` in the files of infra/, given to the parsers of their verbs."""

import argparse
import importlib
import re
import shlex
from typing import Any

import pytest

from pipelines.cli import VERBS


class Parsed(Exception):
    """Thrown by a parser that has accepted its arguments, so that the verb does nothing with them."""


def parse(words: list[str]) -> argparse.Namespace:
    """The arguments as the verb's own parser reads them; fails where there is no such verb or it refuses them."""
    assert words[:2] == ["python", "-m"], words
    package, _, verb = words[2].partition(".")
    assert package == "pipelines"
    assert verb.replace("_", "-") in VERBS
    real = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, *given: Any) -> None:
        raise Parsed(real(parser, *given))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(argparse.ArgumentParser, "parse_args", stop)
        with pytest.raises(Parsed) as seen:
            importlib.import_module(words[2]).main(words[3:])
    namespace: argparse.Namespace = seen.value.args[0]
    return namespace


def commands(text: str) -> list[list[str]]:
    """Every such command in a text, continued lines joined; what is in capitals stands for a place."""
    found = re.findall(r"(python -m pipelines\.\w+(?: [\w./:-]+)*)", re.sub(r" \\\n[# ]*", " ", text))
    return [shlex.split(each) for each in found]
