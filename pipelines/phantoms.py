"""Draw a collection of synthetic chest images, to try the product out without any patient's picture.

    python -m pipelines.phantoms --out data/demo --per-class 40 --seed 2020

A collection that stands there already, drawn with the same numbers, is left as it is.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.command import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 2 when the request cannot be served, 130 when interrupted."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cxr phantoms", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder that gets a subfolder phantoms/")
    parser.add_argument("--per-class", type=int, default=40, help="usable images of each of the seven classes")
    parser.add_argument("--seed", type=int, default=2020, help="seed of everything random")
    parser.add_argument("--size", type=int, default=320, help="height of the images in pixels")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from cxr_platform.intake.phantoms.collection import write_collection

    progress = _show_on_terminal if sys.stderr.isatty() else None
    folder = write_collection(arguments.out, arguments.per_class, arguments.seed, arguments.size, progress)
    print(f"Synthetic images: {folder}")
    return 0


def _show_on_terminal(done: int, total: int) -> None:
    print(
        f"\rDrawing synthetic images: {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True
    )


if __name__ == "__main__":
    raise SystemExit(main())
