"""The commands in README, CONTRIBUTING and docs/, as they stand in code blocks and in `code`."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import REPOSITORY

PAGES = sorted([REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").rglob("*.md")])
BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)
INLINE = re.compile(r"`((?:make|cxr) [^`]+)`")


def commands(page: Path) -> Iterator[str]:
    """Yield the commands of a page, without comments; lines that a backslash continues are one."""
    text = page.read_text(encoding="utf-8")
    for block in BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            command = line.split(" #")[0].strip()
            if command and not command.startswith("#"):
                yield command
    yield from (" ".join(command.split()) for command in INLINE.findall(BLOCK.sub("", text)))


def words_of(command: str) -> list[str]:
    """Return the words of a command without leading assignments (`KERAS_BACKEND=jax`) and the folder of `cxr`."""
    words = shlex.split(command)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    return [re.sub(r"^\.venv(-jax)?/bin/cxr$", "cxr", word) for word in words[:1]] + words[1:]


def all_commands(program: str) -> list[tuple[str, str]]:
    """Return (page, command) of every command of `program` on all pages, each command once."""
    found: dict[str, str] = {}
    for page in PAGES:
        for command in commands(page):
            if words_of(command)[:1] == [program]:
                found.setdefault(command, page.relative_to(REPOSITORY).as_posix())
    return [(page, command) for command, page in found.items()]
