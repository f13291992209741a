"""Films that no fold has seen, by the networks of a tiny study."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cxr_platform.errors import NotPossible
from cxr_platform.evaluation.evidence import FILES
from cxr_platform.evaluation.predictions import PROBABILITY_COLUMNS
from cxr_platform.evidence.external import UnseenFilms, external, score
from cxr_platform.evidence.networks import fold_networks, predict_films
from cxr_platform.evidence.workspace import Workspace
from cxr_platform.training import engine_local
from cxr_platform.training.data import resize_films
from cxr_platform.training.progress import Progress
from cxr_platform.training.study import run_study
from tests.evidence.study import tiny_workspace
from tests.training.builders import tiny_study

STEPS: list[tuple[str, int, int]] = []


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    study = tiny_study(tmp_path_factory.mktemp("study"), ("scratch",))
    run_study(study, engine_local.run, Progress())
    workspace = tiny_workspace(study, progress=lambda *step: STEPS.append(step))
    workspace.study.__dict__["strategies"] = ("scratch",)
    return workspace


def films(count: int = 5, role: str = "external") -> Any:
    """A manifest of films of 64 pixels, the first of the study."""
    pixels = np.random.default_rng(0).integers(0, 255, (count, 64, 64), "uint8")
    columns = {
        "image_id": [f"new-{i}" for i in range(count)],
        "group_id": [f"group-{i}" for i in range(count)],
        "source": ["elsewhere"] * count,
        "label": ["Covid19", "Normal", "Normal", "Edema", "Normal"][:count],
        "role": ["study", *[role] * (count - 1)],
    }
    return SimpleNamespace(table=pa.table(columns).select, pixels=lambda: pixels)


def test_external_films_get_the_probabilities_of_every_fold_at_the_size_of_the_study(workspace: Workspace) -> None:
    manifest = films()
    workspace.__dict__["manifest"] = manifest
    STEPS.clear()
    table = external(workspace)["external"]
    frame = table.to_pandas()
    assert set(FILES["external"]) <= set(table.column_names)
    assert frame["image_id"].tolist() == ["new-1", "new-2", "new-3", "new-4"] * 2
    resized = resize_films(manifest.pixels()[1:], 32)
    for fold, network in fold_networks(workspace, "scratch"):
        rows = frame[frame["fold"] == fold]
        expected = predict_films(network, resized, workspace)
        assert np.abs(rows[list(PROBABILITY_COLUMNS)].to_numpy() - expected).max() < 1e-6
    assert [(done, total) for _, done, total in STEPS] == [(1, 2), (2, 2)]


def test_films_without_a_label_are_scored_with_none(workspace: Workspace) -> None:
    manifest = films(3)
    facts = manifest.table(["image_id", "group_id", "source"]).append_column("label", pa.nulls(3, pa.string()))
    table = score(UnseenFilms(facts, manifest.pixels()), workspace)
    assert table["label"].null_count == table.num_rows == 6


def test_without_external_films_it_is_not_possible(workspace: Workspace) -> None:
    workspace.__dict__["manifest"] = films(role="study")
    with pytest.raises(NotPossible, match="cxr manifest --external"):
        external(workspace)
