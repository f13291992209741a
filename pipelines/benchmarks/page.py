"""Write one page from the results of several benchmarks: the claims and whether each is met, then all figures.

A note by hand, under the heading NOTES at the end of the page, is kept when the page is written again.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxr_platform.errors import ConfigError
from pipelines.benchmarks import (
    accuracy_sections,
    complete,
    large_study_sections,
    markdown_table,
    page_sections,
    robust_page,
    write_page_text,
)
from pipelines.benchmarks.page_sections import Result

TITLED = 2
"""Sections of a page up to which its title names them."""

SECTIONS = {**page_sections.SECTIONS, **accuracy_sections.SECTIONS, **large_study_sections.SECTIONS}
WHOLE_PAGES = {"robust": robust_page.page}
"""Benchmarks whose result is a page by itself."""
NAMES = [*SECTIONS, *WHOLE_PAGES]


@dataclass(frozen=True)
class PageRequest:
    """Files that benchmarks wrote with `--json`, and the file of the page."""

    results: Sequence[Path]
    out: Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `cxr benchmark page`."""
    benchmarks = ", ".join(NAMES)
    parser.add_argument(
        "results", nargs="+", type=Path, metavar="FILE", help=f"results that --json wrote, of: {benchmarks}"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="Markdown file of the page")


def run(request: PageRequest) -> int:
    """Write the page and print its path; return 0.

    Raises `ConfigError` for a file that no benchmark wrote, and for results of different machines or versions.
    """
    write_page_text(request.out, page({file: _read(file) for file in request.results}))
    print(request.out)
    return 0


def page(results: Mapping[Path, Result]) -> str:
    """Return the page of `results`, in the order of `SECTIONS`; the claims come first, if there are any."""
    for file, result in results.items():
        if result["benchmark"] in WHOLE_PAGES:
            return _whole_page(file, result, len(results))
    machine = _one_machine(results)
    ordered = sorted(results.items(), key=lambda item: list(SECTIONS).index(item[1]["benchmark"]))
    sections = [complete(file, result, SECTIONS) for file, result in ordered]
    hardware, versions = machine["hardware"], machine["versions"]
    gpus = ", ".join(hardware["gpus"]) or "no GPU"
    dates = sorted({result["date"] for result in results.values()})
    claims = [
        [claim.wanted, claim.figure, "yes" if claim.met else "**no**"]
        for section in sections
        for claim in section.claims
    ]
    headings = list(dict.fromkeys(section.heading for section in sections))
    title = "; ".join(headings) if len(headings) <= TITLED else "Benchmarks"
    parts = [
        f"# {title}, {' and '.join(dates)}",
        f"Measured with {hardware['processors']} × {hardware['processor']}, {gpus}; "
        f"{', '.join(f'{name} {version}' for name, version in versions.items())}. This page is written by "
        "`cxr benchmark page` from what each benchmark wrote with `--json`. "
        "[What each compares](../how-to/benchmarks.md).",
        *([markdown_table(["wanted", "measured", "met"], claims)] if claims else []),
        *(f"## {section.heading}\n\n{section.body}" for section in sections),
    ]
    return "\n\n".join(parts) + "\n"


def _whole_page(file: Path, result: Result, files: int) -> str:
    if files > 1:
        raise ConfigError(f"Expected a page of {file} alone.", received=f"{files} files", advice="Write two pages.")
    return complete(file, result, WHOLE_PAGES)


def _read(file: Path) -> Result:
    try:
        result = json.loads(file.read_bytes())
        known = result["benchmark"] in NAMES and {"date", "hardware", "versions"} <= result.keys()
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"Expected what a benchmark wrote with --json in {file}.", received=error) from error
    if not known:
        raise ConfigError(
            f"Expected a result with date, hardware and versions in {file}, of one of: {', '.join(NAMES)}.",
            received=f"{result['benchmark']!r} with {', '.join(result)}",
        )
    return dict(result)


def _one_machine(results: Mapping[Path, Result]) -> Result:
    """Return the first result; raise `ConfigError` if another one is of another machine or of other versions."""
    (first, machine), *others = results.items()
    for file, result in others:
        for key in ("hardware", "versions"):
            if result[key] != machine[key]:
                raise ConfigError(
                    f"Expected the {key} of {first} in {file}: {machine[key]}.",
                    received=result[key],
                    advice="Measure both on one machine, in one environment, or write two pages.",
                )
    return machine
