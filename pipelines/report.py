"""Write the report of a study: python -m pipelines.report --study runs/NAME.

With the manifest of the study (found under data/manifests, or named) everything that needs images is computed too:
shortcut probes, external sources, heatmaps, the feature atlas. It is kept in runs/NAME/evidence and not computed again
until something it came from changes.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_platform.domain.study import StudyRecord, read_study
from cxr_platform.errors import ManifestError, StudyError
from cxr_platform.evaluation.evidence_files import read_evidence
from cxr_platform.evaluation.report import write_report
from cxr_platform.evaluation.report_contents import compose
from cxr_platform.evaluation.report_inputs import ReportInputs, load_report_inputs
from cxr_platform.evaluation.summary import summarize
from cxr_platform.evaluation.table import SYNTHETIC
from cxr_platform.progress import Progress
from cxr_platform.storage.paths import absolute, is_remote
from pipelines.command import run_command
from pipelines.opened_study import ELSEWHERE, add_study_arguments, open_manifest_of
from pipelines.places import a_place, at_hand
from pipelines.progress import make_progress

if TYPE_CHECKING:
    from cxr_platform.manifest.store import Manifest

PAPER_SUFFIX = "-paper"


def main(argv: Sequence[str] | None = None) -> int:
    """Check the study's predictions, write `results.json` and `report/`, say the answer; returns the exit code."""
    parser = argparse.ArgumentParser(prog="cxr report", description=__doc__.split("\n")[0])
    add_study_arguments(parser)
    parser.add_argument("--other", type=a_place, help="the study of the same manifest under the other protocol")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    beside = None
    if is_remote(arguments.study) and arguments.other is None:  # a copy has nothing beside it
        beside = _other_protocol(arguments.study, read_study(arguments.study))
    arguments.beside = beside
    with at_hand(arguments, "study", "manifest", "other", "beside") as local:
        write_and_tell(local.study, local.manifest, local.other, local.imagenet_weights, local.beside)
        if local.study != arguments.study:
            print(f"Put into {arguments.study / 'report'}")
    return 0


def write_and_tell(
    study: Path,
    manifest: Path | None = None,
    other: Path | None = None,
    imagenet_weights: Path | None = None,
    beside: Path | None = None,
) -> int:
    """Write the report of `study`, print its answer and where it is; returns 0.

    `other` is the study under the other protocol; without it `beside`, or what is beside `study`, is if it can be used.
    """
    with make_progress(sys.stderr) as progress:
        progress.message("Checking predictions")
        facts = read_study(study)
        opened = _manifest_of(facts, manifest, progress)
        beside = None if other else beside or _other_protocol(study, facts)
        inputs = _loaded(study, opened, other, beside, progress)
        if opened is not None:
            inputs = _with_evidence(study, inputs, opened, imagenet_weights, progress)
        findings, sections = compose(inputs, progress.step)
        page = write_report(study, inputs, sections, findings)
    if inputs.synthetic:
        print(SYNTHETIC)
    for line in summarize(inputs.results, findings).lines:
        print(f"{line.title}: {line.text}")
    print(page)
    return 0


def _loaded(
    folder: Path, manifest: "Manifest | None", named: Path | None, beside: Path | None, progress: Progress
) -> ReportInputs:
    """With the study under the other protocol: the named one, or the one `beside` it if it can be used."""
    # With images at hand the evidence is read once it is complete: what is stored of it may be damaged.
    load = partial(load_report_inputs, folder, manifest, with_evidence=manifest is None)
    if beside is None:
        return load(named)
    try:
        return load(beside)
    except StudyError as reason:
        inputs = load()  # where the fault is that of `folder` itself it is raised again here
        progress.message(f"{beside} is left out: {reason}")
        return inputs


def _manifest_of(study: StudyRecord, named: Path | None, progress: Progress) -> "Manifest | None":
    """The named manifest, or the study's own where it still is; without one the report has no images to look at."""
    try:
        found = open_manifest_of(study, named)
    except ManifestError as error:
        if named is not None:
            raise
        progress.message(f"The report is written without images. {error}")
        return None
    if named is None and found.content_hash != study.manifest.content_hash:
        progress.message(
            f"The report is written without images: {found.folder} was built again since the study. {ELSEWHERE}"
        )
        return None
    return found


def _other_protocol(folder: Path, study: StudyRecord) -> Path | None:
    """The study that `--protocol both` ran beside this one, of the same manifest."""
    folder = absolute(folder)
    name = folder.name.removesuffix(PAPER_SUFFIX) if study.protocol == "paper" else folder.name + PAPER_SUFFIX
    candidate = folder.with_name(name)
    if candidate == folder or not (candidate / "predictions.parquet").is_file():
        return None
    try:
        other = read_study(candidate)
    except StudyError:
        return None
    same = other.manifest.content_hash == study.manifest.content_hash and other.protocol != study.protocol
    return candidate if same else None


def _with_evidence(
    folder: Path, inputs: ReportInputs, manifest: "Manifest", weights: Path | None, progress: Progress
) -> ReportInputs:
    from cxr_platform.evidence.collect import collect
    from cxr_platform.evidence.parts import PARTS
    from cxr_platform.evidence.workspace import Workspace
    from cxr_platform.training.folder import StudyFolder

    winner = inputs.results.decision.winner
    workspace = Workspace(
        StudyFolder(folder), inputs.study, inputs.predictions, winner, manifest, progress.step, weights
    )
    collect(workspace, PARTS)
    return replace(inputs, evidence=read_evidence(folder))


if __name__ == "__main__":
    raise SystemExit(main())
