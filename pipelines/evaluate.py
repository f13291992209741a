"""Score unseen images with the models of a study, every strategy × fold, and compare with its cross-validation.

    cxr evaluate --study runs/NAME --data FOLDER

FOLDER holds collections as `cxr manifest` reads them, or any images with --unlabelled: these are only predicted.
Several folders may be given, and with --outside folders of images of none of the seven classes. Images that the study
was trained on are left out. The backend, TensorFlow or JAX, uses the GPUs that it finds.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from cxr_platform.errors import NotPossible
from cxr_platform.evaluation.statistics.bootstrap import study_bootstrap
from pipelines.command import run_command
from pipelines.evaluation_figures import FIGURE_FILES, write_figures
from pipelines.local_study import local_copies, open_study
from pipelines.manifest import add_data_option, add_outside_option
from pipelines.options import StudyRequest, add_study_options, location, parse_request
from pipelines.progress import make_progress

if TYPE_CHECKING:
    from cxr_platform.evidence.image_folder import ImageFolder
    from cxr_platform.evidence.open_study import OpenStudy

ANSWERS, PREDICTIONS = "answers.csv", "predictions.parquet"


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest(StudyRequest):
    """Folders of images, those of none of the seven classes, and where results go (`None`: below the study).

    `unlabelled` says that no class is known.
    """

    data: Sequence[Path]
    outside: tuple[str, ...]
    out: Path | None
    unlabelled: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, or 2 if the images cannot be scored."""
    return run_command(lambda: run(parse_request(EvaluateRequest, parser(), argv)))


def parser() -> argparse.ArgumentParser:
    """Return the options of `cxr evaluate`."""
    parser = argparse.ArgumentParser(
        prog="cxr evaluate", description="Score unseen images with the models of a study: every strategy × fold."
    )
    add_study_options(parser)
    add_data_option(
        parser, required=True, help="folder or URI of images that the study has not seen, or several: --data A B"
    )
    add_outside_option(parser)
    parser.add_argument("--out", type=location, help="folder or URI of the results (default: STUDY/evaluations/FOLDER)")
    parser.add_argument("--unlabelled", action="store_true", help="take every file as an image of unknown class")
    return parser


def run(request: EvaluateRequest) -> int:
    """Write predictions, excluded files and figures, and print the winner's figures; return 0."""
    from cxr_platform.evidence.external_images import OUTSIDE_KEYS, predict_external
    from cxr_platform.evidence.image_folder import read_image_folder
    from cxr_platform.intake.data_folders import folder_names

    with local_copies(request, "study", "manifest", "out") as local:
        names = folder_names([folder.resolve() for folder in local.data])
        out = local.out or local.study / "evaluations" / "-".join(names).replace("/", "-")
        with make_progress(sys.stderr) as progress:
            workspace = open_study(local, progress)
            folder = read_image_folder(
                local.data,
                workspace.manifest,
                workspace.profile,
                out,
                progress,
                outside=local.outside,
                unlabelled=local.unlabelled,
            )
            _write_excluded(out, folder)
            folder.check_images()
            predictions = predict_external(folder.images, workspace, OUTSIDE_KEYS)
        print(f"{len(folder.images.facts)} images scored, {len(folder.excluded)} files left out.")
        for reason, count in sorted(folder.reasons.items()):
            print(f"Left out: {count:6d}  {reason}")
        if "unknown-folder" in folder.reasons:
            print("Folders of images of other diseases are scored if --outside names them.")
        pq.write_table(predictions, out / PREDICTIONS, compression="zstd")
        _write_answers(out, predictions, folder, workspace)
        if local.unlabelled:
            print("The images have no classes: predictions only, no figures.")
        else:
            origins = {**workspace.study.manifest.origins, **folder.origins}
            write_figures(out, predictions.to_pandas(), workspace, origins, synthetic=folder.synthetic)
        print(f"Answers, one row per file: {out / ANSWERS}")
        print(f"Predictions, one row per image and network: {out / PREDICTIONS}")
    return 0


def _write_excluded(out: Path, folder: "ImageFolder") -> None:
    """Write the excluded files, also if no image is left, and remove the results of an earlier run."""
    out.mkdir(parents=True, exist_ok=True)
    for earlier in (*FIGURE_FILES, PREDICTIONS, ANSWERS):
        (out / earlier).unlink(missing_ok=True)
    with (out / "excluded.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["source_path", "reason", "detail"])
        writer.writerows([path, r.reason, r.detail] for path, r in sorted(folder.excluded.items()))


def _write_answers(out: Path, predictions: pa.Table, folder: "ImageFolder", workspace: "OpenStudy") -> None:
    """Write answers.csv: one row per file, by the mean of the winner's networks and the winner's operating point."""
    from cxr_platform.champion.out_of_fold import TARGET_SENSITIVITY, decision_rule
    from cxr_platform.evaluation.statistics.thresholds import choose_thresholds
    from cxr_platform.evidence.image_answers import image_answers

    study, known, winner = workspace.study, workspace.predictions, workspace.winner
    calibrated = None
    choice = choose_thresholds(known.probability[winner], known.label, (TARGET_SENSITIVITY,))[0]
    try:
        calibrated = choice.temperature, decision_rule(known, winner, choice, study_bootstrap(study, known))
    except NotPossible as error:
        print(f"No decisions: {error}")
    answers = image_answers(predictions, folder.excluded, winner, calibrated)
    answers.to_csv(out / ANSWERS, index=False, lineterminator="\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
