"""Train the network that outlines the lungs, and score it against masks drawn by people.

    cxr lungs train --phantoms 300 --steps 260 --out lungs.npz
    cxr lungs train --images FOLDER --masks FOLDER --part whole --out lungs.npz
    cxr lungs score --images FOLDER --masks FOLDER --part whole --json scores.json
    cxr lungs page scores.json … --out page.md

The platform uses the weights in its package, which were trained by the first of these commands.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cxr_platform.errors import ConfigError
from pipelines.command import run_command
from pipelines.options import parse_request
from pipelines.progress import make_progress

if TYPE_CHECKING:
    from cxr_platform.evidence.lung_scores import MaskedFolder

STEPS = 600


@dataclass(frozen=True)
class LungsRequest:
    """An action and the options that it has."""

    action: str
    name: str = "real"
    images: Path | None = None
    masks: Path | None = None
    part: Literal["aerated", "whole"] = "whole"
    patients: tuple[Path, str, str] | None = None
    fold: tuple[int, int] | None = None
    phantoms: int = 0
    steps: int = STEPS
    seed: int = 1
    out: Path | None = None
    weights: tuple[Path, ...] = ()
    json: Path | None = None
    files: tuple[Path, ...] = ()
    note: tuple[str, ...] = ()


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, or 2 for folders without pairs or a file that cannot be read."""
    return run_command(lambda: run(parse_request(LungsRequest, parser(), argv)))


def parser() -> argparse.ArgumentParser:
    """Return the options of `cxr lungs`."""
    parser = argparse.ArgumentParser(prog="cxr lungs", description="Train and score the network that outlines lungs.")
    actions = parser.add_subparsers(dest="action", required=True)
    train = actions.add_parser("train", help="train the network on masks, on phantoms, or on both")
    score = actions.add_parser("score", help="compare masks of the network, and an outline, with masks drawn by people")
    for action in (train, score):
        needed = action is score
        action.add_argument("--images", type=Path, required=needed, metavar="FOLDER", help="images (PNG, JPEG, DICOM)")
        action.add_argument(
            "--masks", type=Path, required=needed, metavar="FOLDER", help="masks: NAME.png, or NAME@.png beside NAME"
        )
        action.add_argument(
            "--part",
            choices=("aerated", "whole"),
            default="whole",
            help="what the masks mean: the fields beside the heart, or also what lies behind it (default: whole)",
        )
        action.add_argument("--name", default="real", help="name of this set of images in the results (default: real)")
        action.add_argument(
            "--patients", type=_columns, metavar="CSV:FILE:PATIENT", help="table, and its columns of file and patient"
        )
    train.add_argument(
        "--fold", type=_fold, metavar="K/N", help="leave fold K of N out, patients kept together, for scoring"
    )
    train.add_argument("--phantoms", type=int, default=0, metavar="N", help="train on N phantoms (default: 0)")
    train.add_argument("--steps", type=int, default=STEPS, help=f"steps of 32 images (default: {STEPS})")
    train.add_argument("--seed", type=int, default=1, help="seed of all random numbers (default: 1)")
    train.add_argument("--out", type=Path, required=True, metavar="FILE", help="file of weights to write (.npz)")
    score.add_argument(
        "--weights",
        type=Path,
        nargs="+",
        default=(),
        metavar="FILE",
        help="weights by `cxr lungs train`, beside those in the package; those with a fold left out score that fold",
    )
    score.add_argument("--json", type=Path, required=True, metavar="FILE", help="result to write, for `cxr lungs page`")
    page = actions.add_parser("page", help="write the scores as a page of Markdown")
    page.add_argument("files", type=Path, nargs="+", metavar="JSON", help="results of `cxr lungs score`")
    page.add_argument("--out", type=Path, required=True, metavar="FILE", help="page to write")
    page.add_argument(
        "--note",
        action="append",
        default=[],
        metavar="TEXT",
        help="paragraph above the table; may be given several times",
    )
    return parser


def run(request: LungsRequest) -> int:
    """Carry the action out and print its result; return 0."""
    return {"train": _train, "score": _score, "page": _page}[request.action](request)


def _train(request: LungsRequest) -> int:
    from cxr_platform.evidence.lung_scores import training_rows
    from cxr_platform.models.lung_segmenter import PARTS, segmenter_bytes
    from cxr_platform.storage.files import write_atomically
    from cxr_platform.training.lungs import STORED, phantom_lungs, train_segmenter

    if (request.images is None) != (request.masks is None) or not (request.images or request.phantoms > 0):
        raise ConfigError("Expected --images with --masks, or --phantoms N, or all three.", received="none of them")
    if request.fold and request.images is None:
        raise ConfigError("Expected --fold with --images.", received="--phantoms alone")
    if request.steps < 1:
        raise ConfigError("Expected --steps of 1 and more.", received=request.steps)
    sets, names, images, began = [], [], [], time.monotonic()
    with make_progress(sys.stderr) as progress:
        if request.phantoms > 0:
            sets.append(phantom_lungs(request.phantoms, request.seed, progress))
            names.append(f"{request.phantoms} phantoms")
        if request.images is not None:
            folder = _folder(request)
            if request.fold:
                folder = folder.take(training_rows(folder, request.fold))
            images = [str(digest) for digest in folder.digests]
            sets.append(folder.for_training(STORED))
            names.append(request.name)
        network = train_segmenter(sets, request.steps, request.seed, progress)
    fold = f"{request.fold[0]}/{request.fold[1]} of {request.name}" if request.fold else None
    assert request.out is not None
    request.out.parent.mkdir(parents=True, exist_ok=True)
    parts = PARTS if request.phantoms else (request.part,)
    content = segmenter_bytes(
        network, names, request.steps, request.seed, parts=parts, left_out_fold=fold, trained_images=images
    )
    write_atomically(request.out, content)
    print(f"{request.out}: trained on {' and '.join(names)} in {time.monotonic() - began:,.0f} s")
    return 0


def _score(request: LungsRequest) -> int:
    from cxr_platform.evidence.lung_scores import SIDE, left_out_rows, score, scores_table, write_scores
    from cxr_platform.intake.lung_field import lung_fields
    from cxr_platform.models.lung_segmenter import load_segmenter, masks_of, packaged_segmenter

    folder, scores = _folder(request), []
    outline = lung_fields(folder.sizes[:, 0], folder.sizes[:, 1], SIDE)
    scores.append(score(outline, folder, "one outline for all images", request.name))
    networks = [("weights in the package", *packaged_segmenter())]
    networks += [(path.stem, *load_segmenter(path)) for path in request.weights]
    for method, network, header in networks:
        rows, fold = left_out_rows(folder, request.name, header)
        scored = folder.take(rows)
        part = folder.part if folder.part in header.parts else header.parts[0]
        predicted = masks_of(network, scored.pixels, part)
        text = f"{method}, trained on {' and '.join(header.trained_on)}"
        text += f" (its {part} lungs)" if part != folder.part else ""
        scores.append(score(predicted, scored, text, request.name, header.trained_on, fold))
    assert request.json is not None
    write_scores(request.json, scores)
    print(scores_table(scores))
    return 0


def _page(request: LungsRequest) -> int:
    from cxr_platform.evidence.lung_scores import scores_page
    from cxr_platform.storage.files import write_atomically

    assert request.out is not None
    request.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(request.out, scores_page(request.files, request.note).encode())
    print(request.out)
    return 0


def _folder(request: LungsRequest) -> "MaskedFolder":
    from cxr_platform.evidence.lung_scores import read_masked_folder

    assert request.images is not None
    assert request.masks is not None
    return read_masked_folder(request.images, request.masks, request.part, request.patients)


def _fold(text: str) -> tuple[int, int]:
    """Return K and N of "K/N"; raise `argparse.ArgumentTypeError` unless 1 ≤ K ≤ N and N ≥ 2."""
    fold, slash, folds = text.partition("/")
    if not (slash and fold.isdecimal() and folds.isdecimal() and 1 <= int(fold) <= int(folds) and int(folds) >= 2):
        raise argparse.ArgumentTypeError(f"expected a fold such as 1/2, received {text!r}")
    return int(fold), int(folds)


def _columns(text: str) -> tuple[Path, str, str]:
    """Return the file and the two column names of "CSV:FILE:PATIENT"."""
    parts = text.rsplit(":", 2)
    if len(parts) != 3 or not all(parts):
        raise argparse.ArgumentTypeError(f"expected CSV:FILE COLUMN:PATIENT COLUMN, received {text!r}")
    return Path(parts[0]), parts[1], parts[2]


if __name__ == "__main__":
    raise SystemExit(main())
