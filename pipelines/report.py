"""Write the report of a study.

    cxr report --study runs/NAME

With the manifest of the study the results that need images are computed too: shortcut probes, external sources,
heatmaps, the feature atlas. They are stored in runs/NAME/evidence and computed again only if their inputs change.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_platform.domain.study import StudyRecord, read_study
from cxr_platform.errors import ManifestError, StudyError
from cxr_platform.evaluation.evidence_files import read_evidence
from cxr_platform.evaluation.report import write_report
from cxr_platform.evaluation.report_contents import compose
from cxr_platform.evaluation.report_inputs import ReportInputs, load_origins, load_other, load_report_inputs
from cxr_platform.evaluation.summary import summarize
from cxr_platform.evaluation.table import SYNTHETIC
from cxr_platform.progress import Progress
from cxr_platform.storage.paths import absolute
from pipelines.command import run_command
from pipelines.local_study import NAME_THE_MANIFEST, local_copies, open_manifest_of
from pipelines.options import ORIGINS_SUFFIX, StudyRequest, add_study_options, location, parse_request
from pipelines.progress import make_progress

if TYPE_CHECKING:
    from cxr_platform.manifest.store import Manifest

PAPER_SUFFIX = "-paper"
STUDIES = ("study", "manifest", "other", "beside", "origins", "origins_beside")
"""The fields of `ReportRequest` that may be in an object store."""


@dataclass(frozen=True, kw_only=True)
class ReportRequest(StudyRequest):
    """`other` is the study under the other protocol; without it, `beside` is used if it is a complete one.

    `origins` is the study with the protocol origins; without it, `origins_beside` is used.
    """

    other: Path | None = None
    beside: Path | None = None
    origins: Path | None = None
    origins_beside: Path | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, or 2 if the study is incomplete or does not match its manifest."""
    return run_command(lambda: run(parse_request(ReportRequest, parser(), argv)))


def parser() -> argparse.ArgumentParser:
    """Return the options of `cxr report`."""
    parser = argparse.ArgumentParser(prog="cxr report", description="Write the report of a study.")
    add_study_options(parser)
    parser.add_argument("--other", type=location, help="study of the same manifest under the other protocol")
    parser.add_argument(
        "--origins", type=location, help="study of the same manifest with the protocol origins (default: STUDY-origins)"
    )
    return parser


def run(request: ReportRequest) -> int:
    """Write `results.json` and `report/`, and print the answer; return 0."""
    request = with_studies_beside(request)
    with local_copies(request, *STUDIES) as local:
        write_study_report(local)
        if local.study != request.study:
            print(f"Uploaded to {request.study / 'report'}")
    return 0


def write_study_report(request: ReportRequest) -> None:
    """Write the report of a study in a local folder; print its five lines and the path of its page.

    Studies beside it are those of `with_studies_beside`: a local copy of a study in a store has none beside it.
    """
    with make_progress(sys.stderr) as progress:
        progress.message("Checking predictions")
        study = read_study(request.study)
        manifest = _matching_manifest(study, request.manifest, progress)
        inputs = _load(request, manifest, progress)
        if manifest is not None:
            inputs = _with_evidence(request, inputs, manifest, progress)
        findings, sections = compose(inputs, progress)
        page = write_report(request.study, inputs, sections, findings, progress)
    if inputs.synthetic:
        print(SYNTHETIC)
    for line in summarize(inputs.results, findings).lines:
        print(f"{line.title}: {line.text}")
    print(page)


def _load(request: ReportRequest, manifest: "Manifest | None", progress: Progress) -> ReportInputs:
    """Load the study with those of other protocols; one that lies beside it and cannot be used is left out."""
    # With a manifest the evidence is loaded after it is completed: a damaged part is computed again.
    inputs = load_report_inputs(request.study, manifest, request.other, request.origins, with_evidence=manifest is None)

    if request.beside is not None:
        try:
            inputs = replace(inputs, other=load_other(request.beside, inputs.study, inputs.predictions))
        except StudyError as reason:
            progress.message(f"{request.beside} is left out: {reason}")
    if request.origins_beside is not None:
        try:
            inputs = replace(inputs, origins=load_origins(request.origins_beside, inputs.study, inputs.predictions))
        except StudyError as reason:
            progress.message(f"{request.origins_beside} is left out: {reason}")
    return inputs


def _matching_manifest(study: StudyRecord, named: Path | None, progress: Progress) -> "Manifest | None":
    """Return the manifest, or `None` if the default one is absent or was built again: the report needs no images."""
    try:
        manifest = open_manifest_of(study, named)
    except ManifestError as error:
        if named is not None:
            raise
        progress.message(f"The report is written without images. {error}")
        return None
    if named is None and manifest.content_hash != study.manifest.content_hash:
        reason = f"{manifest.folder} was built again since the study. {NAME_THE_MANIFEST}"
        progress.message(f"The report is written without images: {reason}")
        return None
    return manifest


def with_studies_beside(request: ReportRequest) -> ReportRequest:
    """Return `request` with the studies of other protocols that lie beside its own, where it names none."""
    study, folder = read_study(request.study), absolute(request.study)
    if request.other is None:
        paper = folder.name.removesuffix(PAPER_SUFFIX) if study.protocol == "paper" else folder.name + PAPER_SUFFIX
        request = replace(request, beside=_study_beside(folder, study, paper))
    if request.origins is None and study.protocol == "grouped":
        request = replace(request, origins_beside=_study_beside(folder, study, folder.name + ORIGINS_SUFFIX))
    return request


def _study_beside(folder: Path, study: StudyRecord, name: str) -> Path | None:
    """Return the study of that `name` beside `folder`, if it has the same manifest and another protocol."""
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
    request: StudyRequest, inputs: ReportInputs, manifest: "Manifest", progress: Progress
) -> ReportInputs:
    from cxr_platform.evidence.analyses import ANALYSES, update_evidence
    from cxr_platform.evidence.open_study import OpenStudy
    from cxr_platform.training.folder import StudyFolder

    winner = inputs.results.decision.winner
    workspace = OpenStudy(
        StudyFolder(request.study),
        inputs.study,
        inputs.predictions,
        winner,
        manifest,
        progress,
        request.imagenet_weights,
    )
    update_evidence(workspace, ANALYSES)
    return replace(inputs, evidence=read_evidence(request.study))


if __name__ == "__main__":
    raise SystemExit(main())
