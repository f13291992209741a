"""Probes of planted images, in which the place of the sign of each class is known."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from unittest import mock

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
from cxr_platform.evidence import shortcut_probes
from cxr_platform.evidence.lung_regions import LungRegions
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.evidence.shortcut_probes import metadata_probes, metadata_values, pixel_probes
from tests.evidence.builders import (
    Kind,
    inside_lung_field,
    lungs,
    made_open_study,
    planted_facts,
    planted_study,
    published_weights,
    sign_area,
    study_material,
)


@cache
def probed(kind: Kind) -> tuple[OpenStudy, dict[str, pa.Table]]:
    opened = planted_study(kind, published_weights())
    count = len(opened.data.labels)
    known = LungRegions(np.repeat(lungs(64)[None], count, axis=0), np.ones(count, bool))
    with mock.patch.object(shortcut_probes, "study_lungs", return_value=known):
        return opened, {**metadata_probes(opened), **pixel_probes(opened)}


def findings(kind: Kind) -> dict[str, ProbeFinding]:
    """The findings over a winner that is as good as the whole-image probe."""
    opened, tables = probed(kind)
    probes = shortcuts.compute(report_inputs(opened, tables)).probes
    return {probe.name: probe for probe in probes}


def report_inputs(opened: OpenStudy, tables: dict[str, pa.Table]) -> ReportInputs:
    frames = {name: table.to_pandas() for name, table in tables.items()}
    whole = frames["pixel_probes"][frames["pixel_probes"]["probe"] == "whole-image"]
    made = study_material(opened.data, whole[list(PROBABILITY_COLUMNS)].to_numpy())
    return replace(made, evidence=Evidence(frames, {}))


def test_the_planted_signs_are_in_their_places() -> None:
    field = inside_lung_field(64)
    assert not (sign_area("corner", 64) & field).any()
    assert not (lungs(64) & ~field).any()


def test_a_mark_in_the_corner_is_a_shortcut() -> None:
    probes = findings("corner")
    assert probes["without-lungs"].shortcut
    assert probes["without-lungs"].accuracy.value > 80  # type: ignore[operator]
    assert probes["without-outline"].accuracy.value == pytest.approx(95, abs=5)  # less of the noisy body remains
    assert not probes["without-outline"].shortcut  # a control
    assert probes["lungs-only"].accuracy.low < probes["lungs-only"].chance + 5  # type: ignore[operator]
    assert not probes["metadata"].shortcut


def test_a_sign_in_the_lungs_is_no_shortcut() -> None:
    probes = findings("lungs")
    assert not any(probe.shortcut for probe in probes.values())
    assert probes["lungs-only"].accuracy.value == pytest.approx(100, abs=3)
    assert probes["without-lungs"].accuracy.value < 50  # type: ignore[operator]


@pytest.mark.parametrize("kind", ["corner", "lungs"])
def test_sources_with_the_same_images_are_not_recognised(kind: Kind) -> None:
    opened, tables = probed(kind)
    sources = shortcuts.compute(report_inputs(opened, tables)).sources
    assert [source.probe for source in sources] == ["metadata", "whole-image", "without-lungs"]
    assert all(source.chance == 50 and source.sources == 2 for source in sources)
    assert all(source.accuracy.low < 55 for source in sources)  # type: ignore[operator]


def test_every_image_has_one_prediction_per_probe_in_its_fold() -> None:
    opened, tables = probed("corner")
    for name, table in tables.items():
        assert set(FILES[name]) <= set(table.column_names)
        for _, rows in table.to_pandas().groupby("probe"):
            assert rows["image_id"].tolist() == opened.data.image_ids.tolist()
            assert rows["fold"].tolist() == opened.data.folds.tolist()
    values = tables["pixel_probes"].select(PROBABILITY_COLUMNS).to_pandas().to_numpy()
    assert np.abs(values.sum(axis=1) - 1).max() < 1e-3
    assert set(tables["pixel_probes"]["probe"].to_pylist()) == {
        "whole-image",
        "without-lungs",
        "lungs-only",
        "without-outline",
    }


def with_facts(**columns: object) -> OpenStudy:
    """The planted images, of which no pixel is looked at, with other facts of their files."""
    known = planted_study("lungs", None)
    facts = planted_facts(known.data, 0)
    for name, values in columns.items():
        facts = facts.set_column(facts.column_names.index(name), name, pa.array(values))
    return made_open_study(known.data, facts, known.profile, None)


def test_a_file_size_that_predicts_the_class_is_found_without_pixels_or_imagenet() -> None:
    labels = planted_study("lungs", None).data.labels
    table = metadata_probes(with_facts(width=(200 + 10 * labels).astype("int32")))["metadata_probe"].to_pandas()
    assert (table[list(PROBABILITY_COLUMNS)].to_numpy().argmax(axis=1) == labels).all()


def test_a_colour_mode_that_predicts_the_source_is_found() -> None:
    sources = planted_study("lungs", None).data.sources
    opened = with_facts(color_mode=np.where(sources == "east", "RGB", "L"))
    assert metadata_values(opened).shape == (120, 7 + 2)
    table = metadata_probes(opened)["metadata_source_probe"].to_pandas()
    assert (table["predicted"] == table["source"]).all()


def test_the_same_seed_gives_the_same_forest() -> None:
    first, again = (metadata_probes(planted_study("lungs", None))["metadata_probe"] for _ in range(2))
    assert first.equals(again)


def test_with_one_source_the_source_table_is_empty() -> None:
    known = planted_study("lungs", None)
    data = replace(known.data, sources=np.full(120, "east"))
    tables = metadata_probes(made_open_study(data, planted_facts(data, 0), known.profile, None))
    assert tables["metadata_source_probe"].num_rows == 0
    assert set(FILES["metadata_source_probe"]) <= set(tables["metadata_source_probe"].column_names)
    assert tables["metadata_probe"].num_rows == 120


def test_pixel_probes_need_imagenet_weights(tmp_path: Path) -> None:
    opened = planted_study("lungs", None)
    with pytest.raises(WeightsError, match="Expected ImageNet weights"):
        pixel_probes(replace_weights(opened, tmp_path / "absent.h5"))


def replace_weights(opened: OpenStudy, path: Path) -> OpenStudy:
    made = replace(opened, named_weights=path)
    made.__dict__.update(data=opened.data, profile=load_profile("quick", {"model.input_size": 64}))
    return made
