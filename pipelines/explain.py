"""Show where the answer for one film of a study comes from: a picture, by the network that has not seen the film.

python -m pipelines.explain --study runs/NAME --image IMAGE_ID --out film.png
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.command import run_command
from pipelines.opened_study import add_study_arguments, open_study

if TYPE_CHECKING:
    from cxr_platform.evidence.explanations import ImageExplained


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for a film, strategy or study that is not there."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cxr explain", description=__doc__.split("\n")[0])
    add_study_arguments(parser)
    parser.add_argument("--image", required=True, metavar="IMAGE_ID", help="a film, as predictions.parquet names it")
    parser.add_argument("--strategy", help="whose network (default: the winner's)")
    parser.add_argument("--out", type=Path, required=True, help="the picture to write, a .png")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from cxr_platform.evaluation.explained import explained_picture
    from cxr_platform.evidence.explanations import explain_image
    from cxr_platform.labels import CLASSES
    from pipelines.progress import make_progress

    with make_progress(sys.stderr) as progress:
        workspace = open_study(arguments.study, arguments.manifest, arguments.imagenet_weights, progress.step)
        strategy = arguments.strategy or workspace.winner
        found = explain_image(workspace, arguments.image, strategy)
    title = f"{found.label}, source {found.source}; {strategy}, network of fold {found.fold + 1}"
    synthetic = workspace.study.manifest.synthetic
    png = explained_picture(found.film, found.heat, found.field, found.probabilities, title, synthetic=synthetic)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_bytes(png)
    answer = CLASSES[int(found.probabilities.argmax())]
    print(f"{arguments.image}: {answer} with {100 * found.probabilities.max():.2f} %, labelled {found.label}")
    print(_lungs(found))
    print(arguments.out)
    return 0


def _lungs(found: "ImageExplained") -> str:
    if not found.heat.any():
        return "No place of the film speaks for its answer: the heatmap is empty"
    return f"{100 * found.share:.2f} % of the heatmap lies in the lung field"


if __name__ == "__main__":
    raise SystemExit(main())
