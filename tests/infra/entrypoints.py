"""Commands `python -m pipelines.VERB …` in the files of infra/, given to the parsers of their verbs."""

import argparse
import importlib
import re
import shlex

from pipelines.cli import VERBS


def parse(words: list[str]) -> argparse.Namespace:
    """Return the arguments as the verb's own parser reads them; fail for an unknown verb or option."""
    assert words[:2] == ["python", "-m"], words
    package, _, verb = words[2].partition(".")
    assert package == "pipelines"
    assert verb.replace("_", "-") in VERBS
    arguments: argparse.Namespace = importlib.import_module(words[2]).parser().parse_args(words[3:])
    return arguments


def commands(text: str) -> list[list[str]]:
    """Return every such command in a text, with continued lines joined."""
    lines = re.findall(r"(python -m pipelines\.\w+(?: [\w./:-]+)*)", re.sub(r" \\\n[# ]*", " ", text))
    return [shlex.split(each) for each in lines]
