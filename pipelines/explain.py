"""Show which parts of one image a study's prediction comes from, as a picture.

    cxr explain --study runs/NAME --image IMAGE_ID --out image.png
    cxr explain --study runs/NAME --image FILE --out image.png

An image of the study is explained by the network that was not trained on it, another one by the mean of all folds'
networks.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cxr_platform.labels import CLASSES
from pipelines.command import run_command
from pipelines.local_study import local_copies, open_study
from pipelines.options import StudyRequest, add_study_options, parse_request
from pipelines.progress import make_progress


@dataclass(frozen=True, kw_only=True)
class ExplainRequest(StudyRequest):
    """An image (id or file), the strategy whose network explains it (`None`: the winner), and the picture to write."""

    image: str
    strategy: str | None
    out: Path


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, or 2 for an image, strategy or study that does not exist."""
    return run_command(lambda: run(parse_request(ExplainRequest, parser(), argv)))


def parser() -> argparse.ArgumentParser:
    """Return the options of `cxr explain`."""
    parser = argparse.ArgumentParser(
        prog="cxr explain", description="Show which parts of one image a study's prediction comes from."
    )
    add_study_options(parser)
    parser.add_argument("--image", required=True, help="image_id as in predictions.parquet, or path of an image file")
    parser.add_argument("--strategy", help="strategy whose network is explained (default: the winner's)")
    parser.add_argument("--out", type=Path, required=True, help="PNG file to write")
    return parser


def run(request: ExplainRequest) -> int:
    """Write the picture and print the prediction; return 0."""
    from cxr_platform.evaluation.pictures import explanation_picture
    from cxr_platform.evidence.explained_image import explain_image

    with local_copies(request, "study", "manifest") as local, make_progress(sys.stderr) as progress:
        workspace = open_study(local, progress)
        strategy = request.strategy or workspace.winner
        explained = explain_image(workspace, request.image, strategy)
    title = f"image from a file; {strategy}, mean of all folds' networks"
    if explained.fold is not None:
        title = f"{explained.label}, source {explained.source}; {strategy}, network of fold {explained.fold + 1}"
    png = explanation_picture(
        explained.image,
        explained.heat,
        explained.lungs,
        explained.probabilities,
        title,
        synthetic=workspace.study.manifest.synthetic,
    )
    request.out.parent.mkdir(parents=True, exist_ok=True)
    request.out.write_bytes(png)
    predicted = CLASSES[int(explained.probabilities.argmax())]
    labelled = f", labelled {explained.label}" if explained.label else ""
    print(f"{explained.name}: {predicted} with {100 * explained.probabilities.max():.2f} %{labelled}")
    if explained.heat.any():
        print(f"{100 * explained.share:.2f} % of the heatmap lies in the lungs")
    else:
        print("The heatmap is empty: no region of the image supports the predicted class")
    print(request.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
