"""The README stays short, and what it links to is there."""

import re

from tests.conftest import REPOSITORY

TEXT = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_it_has_at_most_120_lines_of_at_most_120_characters_except_rows_of_tables() -> None:
    lines = TEXT.splitlines()
    assert len(lines) <= 120
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


def test_every_file_that_it_links_to_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", TEXT) if not link.startswith("http")]
    assert len(links) > 10
    assert [link for link in links if not (REPOSITORY / link).exists()] == []
