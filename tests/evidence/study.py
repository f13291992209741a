"""A workspace over a tiny study that has no manifest: its images are those that the study was made from."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from cxr_platform.evidence.workspace import Workspace
from cxr_platform.training.study import Study


def tiny_workspace(
    study: Study, *, winner: str = "scratch", progress: Callable[[str, int, int], None] = lambda *_: None
) -> Workspace:
    plan = study.plan
    facts: Any = SimpleNamespace(
        folds=plan.profile.folds, protocol=plan.protocol, profile=plan.profile.to_dict(), name=plan.name
    )
    manifest: Any = SimpleNamespace(content_hash=plan.manifest["content_hash"])
    workspace = Workspace(study.folder, facts, None, winner, manifest, progress)  # type: ignore[arg-type]
    workspace.__dict__.update(data=study.data, imagenet=study.imagenet, profile=plan.profile)  # cached properties
    return workspace
