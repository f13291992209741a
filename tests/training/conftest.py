"""What studies of `builders.tiny_study` share in tests of what is done with trials, not of training itself."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from cxr_platform.training import engine_local
from cxr_platform.training.study import StudyRun
from cxr_platform.training.trial import Workbench
from tests.training.champion_runs import put_activations

Activations = dict[str, list[np.ndarray]]


@pytest.fixture(scope="session")
def activations_of() -> Callable[..., Activations]:
    """`engine_local.compute_activations`, which computes those of the same images and cuts once."""
    compute, kept = engine_local.compute_activations, dict[str, Activations]()

    def once(study: StudyRun, cuts: tuple[str, ...], progress: Any) -> Activations:
        profile, weights = study.plan.profile, study.imagenet or {}
        first = next(
            (id(arrays[0]) for arrays in weights.values()), None
        )  # the builders keep the arrays they have made
        key = repr((cuts, first, profile.model, profile.augmentation, profile.seed, len(study.data.images)))
        if key not in kept:
            kept[key] = compute(study, cuts, progress)
        return kept[key]

    return once


@pytest.fixture(scope="session")
def workbench_of() -> Callable[..., Workbench]:
    """`StudyRun.workbench`, which returns the same one for the same settings, as within one study."""
    make, kept = StudyRun.workbench, dict[str, Workbench]()

    def once(study: StudyRun, *share: Any) -> Workbench:
        profile = study.plan.profile
        key = repr((profile.model, profile.training, profile.resources, id(study.imagenet), share))
        if key not in kept:
            kept[key] = make(study, *share)
        return kept[key]

    return once


@pytest.fixture
def kept_networks(
    activations_of: Callable[..., Activations],
    workbench_of: Callable[..., Workbench],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Studies in this process share networks and activations instead of building and computing them again."""
    monkeypatch.setattr(engine_local, "compute_activations", activations_of)
    monkeypatch.setattr(StudyRun, "workbench", workbench_of)


@pytest.fixture
def activations_from_here(activations_of: Callable[..., Activations], monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies on Ray get the activations that this process computes, without workers of their own for them."""
    from cxr_platform.training import engine_ray
    from cxr_platform.training.activations import on_ray

    for module in (on_ray, engine_ray):
        monkeypatch.setattr(module, "compute_activations", partial(put_activations, compute=activations_of))
