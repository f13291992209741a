"""An opened study searches for ImageNet weights once."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cxr_platform.config import load_profile
from cxr_platform.errors import WeightsError
from cxr_platform.evidence import open_study as module
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.progress import NoProgress
from tests.evidence.builders import planted_study

PROFILE = load_profile("quick", {"folds": 2, "model.input_size": 64})


@pytest.fixture
def opened() -> OpenStudy:
    study: Any = SimpleNamespace(profile=PROFILE)
    folder: Any = SimpleNamespace(root=Path("nowhere"))
    return OpenStudy(folder, study, None, "scratch", None, NoProgress(), Path("named.h5"))  # type: ignore[arg-type]


def test_the_profile_is_that_of_the_study(opened: OpenStudy) -> None:
    assert opened.profile == PROFILE


def test_named_weights_are_loaded_once(opened: OpenStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(module, "find_weights", lambda alpha, named: asked.append((alpha, named)) or named)
    monkeypatch.setattr(module, "load_backbone_weights", lambda path, alpha: {str(path): [alpha]})
    assert opened.imagenet == opened.imagenet == {"named.h5": [PROFILE.model.alpha]}
    assert asked == [(PROFILE.model.alpha, Path("named.h5"))]


def test_missing_weights_are_searched_for_once(opened: OpenStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def in_vain(alpha: float, named: Path | None) -> Path:
        asked.append(alpha)
        raise WeightsError("Expected ImageNet weights and found none.")

    monkeypatch.setattr(module, "find_weights", in_vain)
    for _ in range(3):
        with pytest.raises(WeightsError, match="found none"):
            _ = opened.imagenet
    assert len(asked) == 1


def test_a_small_study_is_probed_whole() -> None:
    opened = planted_study("lungs", None)
    assert opened.probed is opened


def test_a_large_study_is_probed_on_whole_patients_drawn_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROBED", 30)
    opened = planted_study("lungs", None)
    monkeypatch.setattr(module, "load_study_data", lambda *_, **__: opened.data)
    rows = opened.probed.rows
    assert rows is not None
    assert 20 < len(rows) <= 30
    groups = opened.data.group_ids
    assert set(groups[rows]).isdisjoint(np.delete(groups, rows))
    assert (opened.probed.data.images == opened.data.images[rows]).all()
    assert (opened.probed.data.folds == opened.data.folds[rows]).all()
    assert opened.probed is opened.probed  # its features are computed once
    assert rows.tolist() != list(range(len(rows)))
