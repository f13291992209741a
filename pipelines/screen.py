"""Screen images: by the champion of the registry in this process, or by a server.

    cxr screen image.png other.dcm
    cxr screen image.png --url http://127.0.0.1:8000 --json

For research, not for diagnosis. Nothing is stored; with --url the images are sent there.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.command import run_command

if TYPE_CHECKING:
    from rich.table import Table

    from cxr_platform.serving.client import Ask, Reply

KEY_VARIABLE = "CXR_API_KEY"
PIPED_COLUMNS = 140


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 1 when a file got no answer, 2 when none can be asked for."""
    parser = argparse.ArgumentParser(prog="cxr screen", description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="PNG, JPEG or DICOM")
    parser.add_argument("--url", help=f"of a server; its API key is taken from {KEY_VARIABLE}")
    parser.add_argument("--registry", type=Path, default=Path("registry"), help="of the champion (default: registry)")
    parser.add_argument("--version", default="champion", help="a version of the registry (default: champion)")
    parser.add_argument("--json", action="store_true", help="a line of JSON a file, for a program")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    from cxr_platform.serving.client import check_readable

    for file in arguments.files:
        check_readable(file)
    replies: list[tuple[Path, Reply]] = []
    try:
        for file, reply in _answers(arguments):
            replies.append((file, reply))
            if arguments.json:
                print(_line(file, reply), flush=True)
    finally:  # what was answered is not lost with a server that goes away
        if replies and not arguments.json:
            _print_table(replies)
    return 0 if all(_answered(reply) for _, reply in replies) else 1


def _answers(arguments: argparse.Namespace) -> "Iterator[tuple[Path, Reply]]":
    """One after the other, each image read when it is its turn."""
    from cxr_platform.serving.client import read

    with _asking(arguments) as ask:
        for file in arguments.files:
            yield file, ask(read(file))


@contextmanager
def _asking(arguments: argparse.Namespace) -> "Iterator[Ask]":
    from cxr_platform.registry.store import Registry
    from cxr_platform.serving.client import local, remote

    if arguments.url:
        with remote(arguments.url, os.environ.get(KEY_VARIABLE, "")) as ask:
            yield ask
    else:
        from cxr_platform.serving.screener import Screener

        yield local(Screener(*Registry(arguments.registry).open(arguments.version)))


def _answered(reply: "Reply") -> bool:
    from cxr_platform.serving.schema import ScreenAnswer

    return isinstance(reply, ScreenAnswer)


def _line(file: Path, reply: "Reply") -> str:
    import json

    kind = "result" if _answered(reply) else "problem"
    return json.dumps({"file": str(file), kind: reply.model_dump(mode="json")}, ensure_ascii=False)


def _print_table(replies: "Sequence[tuple[Path, Reply]]") -> None:
    from rich.console import Console

    from cxr_platform.serving.schema import NOTICE, ScreenAnswer

    console = Console(width=None if sys.stdout.isatty() else PIPED_COLUMNS)
    console.print(_table(replies))
    models = {reply.model.version: reply.model for _, reply in replies if isinstance(reply, ScreenAnswer)}
    for model in models.values():
        drawn = "; trained on drawn images, it says nothing of patients" if model.synthetic else ""
        console.print(f"Model {model.version}, {model.strategy}{drawn}.")
    console.print(NOTICE)


def _table(replies: "Sequence[tuple[Path, Reply]]") -> "Table":
    from rich.table import Table
    from rich.text import Text

    from cxr_platform.serving.schema import ScreenAnswer

    table = Table("File", "Decision", "Class", "Covid19 (%)", "Why")
    table.columns[0].overflow = "fold"
    table.columns[3].justify = "right"
    for file, reply in replies:
        cells: tuple[str, ...]
        if isinstance(reply, ScreenAnswer):
            covid = "" if reply.covid19_probability is None else f"{100 * reply.covid19_probability:.2f}"
            cells = (str(file), reply.decision, reply.label or "", covid, reply.reason)
        else:
            cells = (str(file), "no answer", "", "", f"{reply.reason}: {reply.title} {reply.detail}")
        table.add_row(*map(Text, cells))
    return table


if __name__ == "__main__":
    raise SystemExit(main())
