"""A workspace over a tiny study that has no manifest: its images are those that the study was made from."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from cxr_platform.evidence.workspace import Workspace
from cxr_platform.training.study import StudyRun
from tests.study_records import study_record


def tiny_workspace(
    study: StudyRun, *, winner: str = "scratch", progress: Callable[[str, int, int], None] = lambda *_: None
) -> Workspace:
    plan = study.plan
    record = study_record(name=plan.name, strategies=plan.strategies, profile=plan.profile)
    manifest: Any = SimpleNamespace(content_hash=plan.manifest.content_hash)
    workspace = Workspace(study.folder, record, None, winner, manifest, progress)  # type: ignore[arg-type]
    workspace.__dict__.update(data=study.data, imagenet=study.imagenet)  # cached properties
    return workspace
