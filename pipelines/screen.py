"""Screen images with the champion of the registry in this process, or with a server.

    cxr screen image.png other.dcm
    cxr screen image.png --url http://127.0.0.1:8000 --json

For research, not for diagnosis. Nothing is stored; with --url the images are sent to the server.
"""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.command import console, run_command
from pipelines.options import REGISTRY, parse_request

if TYPE_CHECKING:
    from cxr_platform.serving.client import Reply, Screen

KEY_VARIABLE = "CXR_API_KEY"
COLUMNS = 140


@dataclass(frozen=True)
class ScreenRequest:
    """Image files, and the server or the version of the registry that screens them; `json` prints lines of JSON."""

    files: list[Path]
    url: str | None
    registry: Path
    version: str
    json: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, 1 if an image could not be screened, 2 if there is no server or champion."""
    return run_command(lambda: run(parse_request(ScreenRequest, parser(), argv)))


def parser() -> argparse.ArgumentParser:
    """Return the options of `cxr screen`."""
    parser = argparse.ArgumentParser(
        prog="cxr screen", description="Screen images with the champion of the registry, or with a server."
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="PNG, JPEG or DICOM")
    parser.add_argument("--url", help=f"URL of a server; its API key is read from {KEY_VARIABLE}")
    parser.add_argument("--registry", type=Path, default=REGISTRY, help="folder of the registry (default: registry)")
    parser.add_argument("--version", default="champion", help="version of the registry (default: champion)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON per file")
    return parser


def run(request: ScreenRequest) -> int:
    """Screen the files one after the other and print the answers; return 0, or 1 if a file could not be screened."""
    from cxr_platform.serving.client import check_readable, read_file
    from cxr_platform.serving.schema import ScreenAnswer

    for file in request.files:
        check_readable(file)
    replies: list[tuple[Path, Reply]] = []
    try:
        with _client(request) as ask:
            for file in request.files:
                reply = ask(read_file(file))
                replies.append((file, reply))
                if request.json:
                    kind = "result" if isinstance(reply, ScreenAnswer) else "problem"
                    tree = {"file": str(file), kind: reply.model_dump(mode="json")}
                    print(json.dumps(tree, ensure_ascii=False), flush=True)
    finally:  # the answers so far are printed even if the server goes away
        if replies and not request.json:
            _print_table(replies)
    return 0 if all(isinstance(reply, ScreenAnswer) for _, reply in replies) else 1


@contextmanager
def _client(request: ScreenRequest) -> "Iterator[Screen]":
    from cxr_platform.serving.client import local_screen, remote_screen

    if request.url:
        with remote_screen(request.url, os.environ.get(KEY_VARIABLE, "")) as ask:
            yield ask
    else:
        from cxr_platform.registry.store import Registry
        from cxr_platform.serving.screener import Screener

        yield local_screen(Screener(*Registry(request.registry).open(request.version)))


def _print_table(replies: "Sequence[tuple[Path, Reply]]") -> None:
    from rich.table import Table
    from rich.text import Text

    from cxr_platform.serving.schema import NOTICE, ScreenAnswer

    table = Table("File", "Decision", "Class", "Covid19 (%)", "Why")
    table.columns[0].overflow = "fold"
    table.columns[3].justify = "right"
    models = {}
    for file, reply in replies:
        cells: tuple[str, ...]
        if isinstance(reply, ScreenAnswer):
            models[reply.model.version] = reply.model
            covid = "" if reply.covid19_probability is None else f"{100 * reply.covid19_probability:.2f}"
            cells = (str(file), reply.decision, reply.label or "", covid, reply.reason)
        else:
            cells = (str(file), "no answer", "", "", f"{reply.reason}: {reply.title} {reply.detail}")
        table.add_row(*map(Text, cells))
    output = console(COLUMNS)
    output.print(table)
    for model in models.values():
        synthetic = "; trained on synthetic images, not valid for patients" if model.synthetic else ""
        output.print(f"Model {model.version}, {model.strategy}{synthetic}.")
    output.print(NOTICE)


if __name__ == "__main__":
    raise SystemExit(main())
