"""Score a folder of unseen images with the models of a study: every strategy × fold, beside its cross-validation.

    python -m pipelines.evaluate --study runs/NAME --data FOLDER

FOLDER holds collections as `cxr manifest` takes them, or with --unlabelled any images, which are then only predicted.
Images that the study has seen are left out. The GPUs, if any, are used as TensorFlow finds them.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.command import run_command
from pipelines.opened_study import add_study_arguments, open_study
from pipelines.places import a_place, at_hand

if TYPE_CHECKING:
    import pandas as pd

    from cxr_platform.evaluation.table import Table
    from cxr_platform.evidence.folder import Folder
    from cxr_platform.evidence.workspace import Workspace

FIGURES_CSV, FIGURES_MD = "figures.csv", "figures.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 when the images cannot be scored."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _with_places(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cxr evaluate", description=__doc__.split("\n")[0])
    add_study_arguments(parser)
    parser.add_argument("--data", type=a_place, required=True, help="images that the study has not seen")
    parser.add_argument("--out", type=a_place, help="where the results go (default: STUDY/evaluations/FOLDER)")
    parser.add_argument(
        "--unlabelled", action="store_true", help="take every file as an image whose class is not known"
    )
    return parser


def _with_places(arguments: argparse.Namespace) -> int:
    with at_hand(arguments, "study", "manifest", "data", "out") as local:
        return _run(local)


def _run(arguments: argparse.Namespace) -> int:
    from cxr_platform.evidence.external import score
    from cxr_platform.evidence.folder import read_folder
    from pipelines.progress import make_progress

    out = arguments.out or arguments.study / "evaluations" / arguments.data.resolve().name
    with make_progress(sys.stderr) as progress:
        workspace = open_study(arguments.study, arguments.manifest, arguments.imagenet_weights, progress.step)
        folder = read_folder(
            arguments.data, workspace.manifest, workspace.profile, out, progress, unlabelled=arguments.unlabelled
        )
        rows = score(folder.images, workspace)
    print("\n".join(_told(folder)))
    _write(out, rows, folder)
    frame = rows.to_pandas()
    labelled = frame[frame["label"].notna()]
    if len(labelled):
        _write_tables(out, *_tables(labelled, workspace, synthetic=folder.synthetic))
    else:
        print("No class is known of these images: predictions only, no figures.")
    print(f"Predictions: {out / 'predictions.parquet'}")
    return 0


def _told(folder: "Folder") -> list[str]:
    lines = [f"{len(folder.images.facts)} images scored, {len(folder.excluded)} files left out."]
    return lines + [f"Left out: {n:6d}  {reason}" for reason, n in sorted(folder.reasons.items())]


def _tables(labelled: "pd.DataFrame", workspace: "Workspace", *, synthetic: bool) -> "tuple[Table, Table]":
    """Figures of the winner, and of all strategies, the winner first."""
    from cxr_platform.evaluation.sections.external import unseen_table
    from cxr_platform.evaluation.statistics.bootstrap import study_seed
    from cxr_platform.evaluation.statistics.external import external_findings

    study, winner = workspace.study, workspace.winner
    strategies = sorted(study.strategies, key=lambda strategy: strategy != winner)
    found = external_findings(labelled, workspace.predictions, strategies, study_seed(study))
    best = [finding for finding in found if finding.strategy == winner]
    titles = (f"Unseen images by {winner}, the winner of {study.name}", f"Unseen images by the models of {study.name}")
    first, every = (
        unseen_table("figures", title, rows, labelled, synthetic=synthetic)
        for title, rows in zip(titles, (best, found), strict=True)
    )
    return first, every


def _write(out: Path, rows: Any, folder: "Folder") -> None:
    import pyarrow.parquet as pq

    out.mkdir(parents=True, exist_ok=True)
    for figures in (FIGURES_CSV, FIGURES_MD):  # those of an earlier run are not of these predictions
        (out / figures).unlink(missing_ok=True)
    pq.write_table(rows, out / "predictions.parquet", compression="zstd")
    with (out / "excluded.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["source_path", "reason", "detail"])
        writer.writerows([path, r.reason, r.detail] for path, r in sorted(folder.excluded.items()))


def _write_tables(out: Path, winner: "Table", every: "Table") -> None:
    from cxr_platform.evaluation.table import to_csv, to_markdown

    (out / FIGURES_CSV).write_text(to_csv(every), encoding="utf-8")
    (out / FIGURES_MD).write_text(to_markdown(every), encoding="utf-8")
    print(to_markdown(winner))
    print(f"All strategies: {out / FIGURES_MD}")


if __name__ == "__main__":
    raise SystemExit(main())
