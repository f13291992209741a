"""Planted truth: of which it is known where the sign of the class is, and what the probes have to say of it."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cxr_platform.config import load_profile
from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.errors import WeightsError
from cxr_platform.evaluation.evidence_files import FILES, Evidence
from cxr_platform.evaluation.findings import ProbeFinding
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections import shortcuts
from cxr_platform.evidence.probes import metadata_probes, metadata_values, pixel_probes
from cxr_platform.evidence.workspace import Workspace
from tests.evidence.builders import (
    Kind,
    inside_lung_field,
    lungs,
    made_workspace,
    planted_facts,
    planted_workspace,
    published_weights,
    sign_area,
    study_material,
)


@cache
def probed(kind: Kind) -> tuple[Workspace, dict[str, pa.Table]]:
    workspace = planted_workspace(kind, published_weights())
    return workspace, {**metadata_probes(workspace), **pixel_probes(workspace)}


def found(kind: Kind) -> dict[str, ProbeFinding]:
    """The findings over a winner that is as good as the whole-image probe."""
    workspace, tables = probed(kind)
    probes, _ = shortcuts.find(report_inputs(workspace, tables))
    return {probe.name: probe for probe in probes}


def report_inputs(workspace: Workspace, tables: dict[str, pa.Table]) -> ReportInputs:
    frames = {name: table.to_pandas() for name, table in tables.items()}
    whole = frames["pixel_probes"][frames["pixel_probes"]["probe"] == "whole-image"]
    made = study_material(workspace.data, whole[list(PROBABILITY_COLUMNS)].to_numpy())
    return replace(made, evidence=Evidence(frames, {}))


def test_the_signs_are_where_they_are_said_to_be() -> None:
    field = inside_lung_field(64)
    assert not (sign_area("corner", 64) & field).any()
    assert not (lungs(64) & ~field).any()


def test_a_mark_in_the_corner_is_called_a_shortcut() -> None:
    probes = found("corner")
    assert probes["without-lungs"].shortcut
    assert probes["without-lungs"].accuracy.value == pytest.approx(95, abs=5)
    assert probes["lungs-only"].accuracy.low < probes["lungs-only"].chance + 5  # type: ignore[operator]
    assert not probes["metadata"].shortcut


def test_a_sign_in_the_lungs_is_not() -> None:
    probes = found("lungs")
    assert not any(probe.shortcut for probe in probes.values())
    assert probes["lungs-only"].accuracy.value == pytest.approx(100, abs=3)
    assert probes["without-lungs"].accuracy.value < 50  # type: ignore[operator]


@pytest.mark.parametrize("kind", ["corner", "lungs"])
def test_sources_with_the_same_images_of_each_class_are_not_told(kind: Kind) -> None:
    workspace, tables = probed(kind)
    _, sources = shortcuts.find(report_inputs(workspace, tables))
    assert [source.probe for source in sources] == ["metadata", "whole-image", "without-lungs"]
    assert all(source.chance == 50 and source.sources == 2 for source in sources)
    assert all(source.accuracy.low < 55 for source in sources)  # type: ignore[operator]


def test_every_image_is_answered_once_a_probe_in_its_own_fold() -> None:
    workspace, tables = probed("corner")
    for name, table in tables.items():
        assert set(FILES[name]) <= set(table.column_names)
        for _, rows in table.to_pandas().groupby("probe"):
            assert rows["image_id"].tolist() == workspace.data.image_ids.tolist()
            assert rows["fold"].tolist() == workspace.data.folds.tolist()
    values = tables["pixel_probes"].select(PROBABILITY_COLUMNS).to_pandas().to_numpy()
    assert np.abs(values.sum(axis=1) - 1).max() < 1e-3
    assert set(tables["pixel_probes"]["probe"].to_pylist()) == {"whole-image", "without-lungs", "lungs-only"}


def with_facts(**columns: object) -> Workspace:
    """The planted images, of which no pixel is looked at, with other facts of their files."""
    known = planted_workspace("lungs", None)
    facts = planted_facts(known.data, 0)
    for name, values in columns.items():
        facts = facts.set_column(facts.column_names.index(name), name, pa.array(values))
    return made_workspace(known.data, facts, known.profile, None)


def test_files_whose_size_gives_the_class_away_are_found_without_a_pixel_or_imagenet() -> None:
    labels = planted_workspace("lungs", None).data.labels
    table = metadata_probes(with_facts(width=(200 + 10 * labels).astype("int32")))["metadata_probe"].to_pandas()
    assert (table[list(PROBABILITY_COLUMNS)].to_numpy().argmax(axis=1) == labels).all()


def test_the_colour_mode_gives_the_source_away_too() -> None:
    sources = planted_workspace("lungs", None).data.sources
    workspace = with_facts(color_mode=np.where(sources == "east", "RGB", "L"))
    assert metadata_values(workspace).shape == (120, 7 + 2)
    table = metadata_probes(workspace)["metadata_source_probe"].to_pandas()
    assert (table["predicted"] == table["source"]).all()


def test_the_same_seed_gives_the_same_forest() -> None:
    first, again = (metadata_probes(planted_workspace("lungs", None))["metadata_probe"] for _ in range(2))
    assert first.equals(again)


def test_with_one_source_there_is_no_source_to_tell() -> None:
    known = planted_workspace("lungs", None)
    data = replace(known.data, sources=np.full(120, "east"))
    tables = metadata_probes(made_workspace(data, planted_facts(data, 0), known.profile, None))
    assert tables["metadata_source_probe"].num_rows == 0
    assert set(FILES["metadata_source_probe"]) <= set(tables["metadata_source_probe"].column_names)
    assert tables["metadata_probe"].num_rows == 120


def test_pixels_need_imagenet(tmp_path: Path) -> None:
    workspace = planted_workspace("lungs", None)
    with pytest.raises(WeightsError, match="Expected ImageNet weights"):
        pixel_probes(replace_weights(workspace, tmp_path / "absent.h5"))


def replace_weights(workspace: Workspace, path: Path) -> Workspace:
    made = replace(workspace, named_weights=path)
    made.__dict__.update(data=workspace.data, profile=load_profile("quick", {"model.input_size": 64}))
    return made
