"""What an opened study reads, and how often."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cxr_platform.config import load_profile
from cxr_platform.errors import WeightsError
from cxr_platform.evidence import workspace as module
from cxr_platform.evidence.workspace import Workspace

PROFILE = load_profile("quick", {"folds": 2, "model.input_size": 64})


@pytest.fixture
def workspace() -> Workspace:
    study: Any = SimpleNamespace(profile=PROFILE.to_dict())
    folder: Any = SimpleNamespace(root=Path("nowhere"))
    return Workspace(folder, study, None, "scratch", None, lambda *_: None, Path("named.h5"))  # type: ignore[arg-type]


def test_the_profile_is_the_one_that_the_study_was_run_with(workspace: Workspace) -> None:
    assert workspace.profile == PROFILE


def test_weights_are_looked_for_once_where_they_were_named(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(module, "find_weights", lambda alpha, named: asked.append((alpha, named)) or named)
    monkeypatch.setattr(module, "load_backbone_weights", lambda path, alpha: {str(path): [alpha]})
    assert workspace.imagenet == workspace.imagenet == {"named.h5": [PROFILE.model.alpha]}
    assert asked == [(PROFILE.model.alpha, Path("named.h5"))]


def test_weights_that_are_not_to_be_had_are_looked_for_once_too(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def in_vain(alpha: float, named: Path | None) -> Path:
        asked.append(alpha)
        raise WeightsError("Expected ImageNet weights and found none.")

    monkeypatch.setattr(module, "find_weights", in_vain)
    for _ in range(3):
        with pytest.raises(WeightsError, match="found none"):
            _ = workspace.imagenet
    assert len(asked) == 1
