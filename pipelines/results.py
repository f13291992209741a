"""Write the page of published results from the reports of finished studies.

    cxr results --study runs/NAME --command "make cv-all DATA=~/images" --docs docs --readme README.md

Adds the study to docs/results (or replaces it) and writes docs/results.md and the key figures of the README from all
studies there. Without --study only the two pages are written again.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cxr_platform.errors import ConfigError
from cxr_platform.evaluation.results_page import published_study, read_published, results_page, with_key_figures
from cxr_platform.storage.files import write_atomically
from pipelines.command import run_command
from pipelines.local_study import local_copies
from pipelines.options import location, parse_request


@dataclass(frozen=True)
class ResultsRequest:
    """A study, how it was made and what else has to be known, the folder of the documentation, and the README."""

    study: Path | None
    command: str | None
    note: str | None
    docs: Path
    readme: Path | None


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, or 2 if the study has no report or is of synthetic images."""
    return run_command(lambda: run(parse_request(ResultsRequest, parser(), argv)))


def parser() -> argparse.ArgumentParser:
    """Return the options of `cxr results`."""
    parser = argparse.ArgumentParser(
        prog="cxr results", description="Write the page of published results from the reports of finished studies."
    )
    parser.add_argument("--study", type=location, metavar="runs/NAME", help="folder or URI of a study with a report")
    parser.add_argument("--command", help="how the study was made, for the page; needed with --study")
    parser.add_argument("--note", help="what a reader has to know besides, in Markdown (default: that of before)")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of the documentation (default: docs)")
    parser.add_argument("--readme", type=Path, help="README whose key figures are replaced")
    return parser


def run(request: ResultsRequest) -> int:
    """Write the files, of which a study of the same name is replaced, and print their paths; return 0."""
    folder = request.docs / "results"
    if request.study is not None:
        if request.command is None:
            advice = 'For example --command "make cv-all DATA=~/images".'
            raise ConfigError("Expected --command with --study.", received="none", advice=advice)
        with local_copies(request, "study") as local:
            assert local.study is not None
            study = published_study(local.study, request.command)
        published = {earlier: read_published(earlier) for earlier in sorted(folder.glob("*.json"))}
        before = {earlier: one.note for earlier, one in published.items() if one.name == study.name}
        note = next(iter(before.values()), "") if request.note is None else request.note
        file = folder / f"{study.date}-{study.name}.json"
        write_atomically(file, study.model_copy(update={"note": note}).to_json())
        for earlier in before.keys() - {file}:
            earlier.unlink()
            print(f"{earlier} is replaced")
        print(file)
    written = write_pages(request.docs, request.readme)
    print("\n".join(map(str, written)))
    return 0


def write_pages(docs: Path, readme: Path | None) -> list[Path]:
    """Write `results.md` and the README's key figures from `docs/results`; return the paths."""
    studies = [read_published(file) for file in sorted((docs / "results").glob("*.json"))]
    page = docs / "results.md"
    write_atomically(page, results_page(studies, further_pages(docs)).encode())
    if readme is None:
        return [page]
    write_atomically(readme, with_key_figures(readme.read_text(encoding="utf-8"), studies).encode())
    return [page, readme]


def further_pages(docs: Path) -> dict[str, str]:
    """Return the path below `docs` of each page in `docs/results` → its heading."""
    pages = sorted((docs / "results").glob("*.md"))
    return {
        page.relative_to(docs).as_posix(): page.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        for page in pages
    }


if __name__ == "__main__":
    raise SystemExit(main())
