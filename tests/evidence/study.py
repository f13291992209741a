"""A tiny open study without a manifest: its images are those that the study was made from."""

from types import SimpleNamespace
from typing import Any

from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.progress import NoProgress
from cxr_platform.training.study import StudyRun
from tests.study_records import study_record


def tiny_open_study(study: StudyRun, *, winner: str = "scratch") -> OpenStudy:
    plan = study.plan
    record = study_record(name=plan.name, strategies=plan.strategies, profile=plan.profile)
    manifest: Any = SimpleNamespace(content_hash=plan.manifest.content_hash)
    opened = OpenStudy(study.folder, record, None, winner, manifest, NoProgress())  # type: ignore[arg-type]
    opened.__dict__.update(data=study.data, imagenet=study.imagenet)  # cached properties
    return opened
