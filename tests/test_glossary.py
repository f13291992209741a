"""Retired words stay out of code, messages and pages; docs/glossary.md says what to write in their place."""

import re
import subprocess

import pytest

from tests.conftest import REPOSITORY

RETIRED = {
    # word or phrase → what to write
    r"films?": "image",
    r"(?<!model )(?<!study )(?<!model_)(?<!study_)cards?": "GPU",
    r"told apart": "significantly different",
    r"without a word": "without an error message",
    r"whoever": "the user, a client, a program",
    r"nobody": "no request, no user, no process",
    r"colleagues?": "client",
    r"mend(?:ed|s)?": "correct, fix",
}
IDENTIFIERS = {
    r"\w+_told": "name the result",
    r"\w+_said": "name the result",
    r"(?:images|epochs|trials|seconds)_an?_\w+": "images_per_class",
}
SUFFIXES = (".py", ".md", ".j2", ".html", ".js", ".css", ".toml", ".yaml", ".yml", ".json")
ALLOWED = {
    # path → regular expression of lines in which the word is a proper name of data, or is quoted
    "tests/test_glossary.py": ".*",
    "docs/glossary.md": ".*",
    "cxr_platform/intake/layouts/class_folder.py": r'"films"|\bfilms\b',  # a folder that published collections have
    "cxr_platform/intake/layouts/public_collections.toml": 'file = "film"',  # a column of a published table
    "docs/how-to/own-images.md": "`film` and `rsna_label`",  # columns of a published table
    "tests/intake/layouts/test_reader_labels.py": "film,rsna_label",
    "infra/grafana/cxr.json": r'"type": "|"card',  # Grafana's own names
}


def tracked_files() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is not a git checkout")
    return [name for name in listed.stdout.splitlines() if name.endswith(SUFFIXES)]


def retired_in(path: str, text: str) -> list[str]:
    """Lines of `text` with a retired word, as path:line: word (write …)."""
    allowed = ALLOWED.get(path)
    words = re.compile(rf"\b(?:{'|'.join(RETIRED)})\b|\b(?:{'|'.join(IDENTIFIERS)})\b", re.IGNORECASE)
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        match = words.search(line)
        if match and not (allowed and re.search(allowed, line)):
            lines.append(f"{path}:{number}: {match.group()}")
    return lines


def test_no_retired_word_is_used() -> None:
    lines = [line for name in tracked_files() for line in retired_in(name, (REPOSITORY / name).read_text("utf-8"))]
    assert lines == [], "see docs/glossary.md"


@pytest.mark.parametrize(
    "line",
    [
        "Return the film.",
        "films = []",
        "a card with 8 GiB",
        "the two cannot be told apart",
        "images_a_class = 3",
        "what_was_told",
    ],
)
def test_a_retired_word_would_be_seen(line: str) -> None:
    assert retired_in("cxr_platform/somewhere.py", line)


@pytest.mark.parametrize(
    "line", ["the model card", "MODEL_CARD.md", "study_card", "discard", "filmography", "recommended"]
)
def test_other_words_are_left_alone(line: str) -> None:
    assert not retired_in("cxr_platform/somewhere.py", line)
