"""Draw a collection of synthetic chest images, to try the platform without images of patients.

    cxr phantoms --out data/demo --per-class 40 --seed 2020

An existing collection that was drawn with the same numbers is kept.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.command import run_command
from pipelines.options import parse_request
from pipelines.progress import make_progress


@dataclass(frozen=True)
class PhantomsRequest:
    """Folder, number of images per class, seed, and height of the images in pixels."""

    out: Path
    per_class: int
    seed: int
    size: int


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, 2 for a number out of range, 130 when interrupted."""
    return run_command(lambda: run(parse_request(PhantomsRequest, parser(), argv)))


def parser() -> argparse.ArgumentParser:
    """Return the options of `cxr phantoms`."""
    parser = argparse.ArgumentParser(prog="cxr phantoms", description="Draw a collection of synthetic chest images.")
    parser.add_argument("--out", type=Path, required=True, help="folder in which phantoms/ is created")
    parser.add_argument(
        "--per-class", type=int, default=40, help="usable images of each of the seven classes (default: 40)"
    )
    parser.add_argument("--seed", type=int, default=2020, help="seed of all random numbers (default: 2020)")
    parser.add_argument("--size", type=int, default=320, help="height of the images in pixels (default: 320)")
    return parser


def run(request: PhantomsRequest) -> int:
    """Draw the images and print their folder; return 0."""
    from cxr_platform.intake.phantoms.collection import write_collection

    with make_progress(sys.stderr) as progress:
        folder = write_collection(request.out, request.per_class, request.seed, request.size, progress)
    print(f"Synthetic images: {folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
