"""Show where a study's answer for one image comes from, as a picture.

    python -m pipelines.explain --study runs/NAME --image IMAGE_ID --out image.png
    python -m pipelines.explain --study runs/NAME --image FILE --out image.png

An image of the study is explained by the network that has not seen it, another by the mean of all folds' networks.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.command import run_command
from pipelines.opened_study import add_study_arguments, open_study
from pipelines.places import at_hand

if TYPE_CHECKING:
    from cxr_platform.evidence.explained_image import ImageExplained


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for an image, strategy or study that is not there."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _with_places(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cxr explain", description=__doc__.split("\n")[0])
    add_study_arguments(parser)
    parser.add_argument(
        "--image", required=True, help="an image, as predictions.parquet names it, or the path of a file"
    )
    parser.add_argument("--strategy", help="whose network (default: the winner's)")
    parser.add_argument("--out", type=Path, required=True, help="the picture to write, a .png")
    return parser


def _with_places(arguments: argparse.Namespace) -> int:
    with at_hand(arguments, "study", "manifest") as local:
        return _run(local)


def _run(arguments: argparse.Namespace) -> int:
    from cxr_platform.evaluation.pictures import explanation_picture
    from cxr_platform.evidence.explained_image import explain_image
    from cxr_platform.labels import CLASSES
    from pipelines.progress import make_progress

    with make_progress(sys.stderr) as progress:
        workspace = open_study(arguments.study, arguments.manifest, arguments.imagenet_weights, progress.step)
        strategy = arguments.strategy or workspace.winner
        found = explain_image(workspace, arguments.image, strategy)
    synthetic = workspace.study.manifest.synthetic
    png = explanation_picture(
        found.image, found.heat, found.field, found.probabilities, _title(found, strategy), synthetic=synthetic
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_bytes(png)
    answer = CLASSES[int(found.probabilities.argmax())]
    labelled = f", labelled {found.label}" if found.label else ""
    print(f"{found.name}: {answer} with {100 * found.probabilities.max():.2f} %{labelled}")
    print(_lungs(found))
    print(arguments.out)
    return 0


def _title(found: "ImageExplained", strategy: str) -> str:
    if found.fold is None:
        return f"image from a file; {strategy}, mean of all folds' networks"
    return f"{found.label}, source {found.source}; {strategy}, network of fold {found.fold + 1}"


def _lungs(found: "ImageExplained") -> str:
    if not found.heat.any():
        return "No place of the image speaks for its answer: the heatmap is empty"
    return f"{100 * found.share:.2f} % of the heatmap lies in the lung field"


if __name__ == "__main__":
    raise SystemExit(main())
