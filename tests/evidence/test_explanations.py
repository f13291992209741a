"""Heatmaps of networks trained on planted signs: a mark in the corner, and a sign in the lungs."""

from dataclasses import replace
from functools import cache
from unittest import mock

import numpy as np
import pandas as pd
import pytest

from cxr_platform.evaluation.evidence_files import FILES, Evidence
from cxr_platform.evaluation.findings import LungShare
from cxr_platform.evaluation.sections import explanations as topic
from cxr_platform.evidence import explanations as explained
from cxr_platform.evidence.explanations import (
    Explained,
    explain_rows,
    explanations,
    images_of,
    lung_shares,
    sampled_rows,
    shown_rows,
)
from cxr_platform.intake.lung_field import lung_fields
from cxr_platform.labels import CLASSES
from tests.evidence.builders import Kind, sign_area, study_material
from tests.evidence.trained import SIZE, STRATEGY, trained_open_study


@cache
def parts(kind: Kind) -> tuple[Explained, ...]:
    """Every image explained; fewer than sixty a class, so that the sample is all of them."""
    opened = trained_open_study(kind)
    return tuple(explain_rows(opened, STRATEGY, np.arange(len(opened.predictions.label))))


@cache
def tables(kind: Kind) -> dict[str, pd.DataFrame]:
    with mock.patch.object(explained, "explain_rows", return_value=parts(kind)):
        return {name: table.to_pandas() for name, table in explanations(trained_open_study(kind)).items()}


def finding(kind: Kind) -> LungShare:
    """What the report's section says of these tables."""
    opened = trained_open_study(kind)
    place = {image_id: row for row, image_id in enumerate(opened.predictions.image_id)}
    order = [place[image_id] for image_id in opened.data.image_ids]
    made = study_material(opened.data, opened.predictions.probability[STRATEGY][order])
    frame = tables(kind)["lung_share"].assign(strategy="scratch")  # as `study_material` calls its strategy
    result = topic.compute(replace(made, evidence=Evidence({"lung_share": frame})))
    assert result is not None
    return result


def on_the_sign(kind: Kind) -> np.ndarray:
    """Share of each map that falls where the sign is drawn, over the right answers of classes that have one."""
    opened = trained_open_study(kind)
    predictions = opened.predictions
    right = predictions.probability[STRATEGY].argmax(axis=1) == predictions.label
    wanted = right & (predictions.label != CLASSES.index("Normal"))
    maps = np.concatenate([part.maps[wanted[part.rows]] for part in parts(kind)])
    side = maps.shape[1]
    cells = sign_area(kind, SIZE).reshape(side, SIZE // side, side, SIZE // side).mean(axis=(1, 3))
    return (maps * cells).sum(axis=(1, 2)) / maps.sum(axis=(1, 2))


@pytest.mark.parametrize("kind", ["corner", "lungs"])
def test_the_networks_recognise_the_planted_sign(kind: Kind) -> None:
    predictions = trained_open_study(kind).predictions
    assert (predictions.probability[STRATEGY].argmax(axis=1) == predictions.label).mean() > 0.9


def test_a_network_that_uses_a_corner_mark_has_a_low_lung_share() -> None:
    result = finding("corner")
    assert result.images == 120
    assert result.low
    assert result.share.value < result.field_share - 10


def test_a_network_that_uses_the_lungs_has_a_high_lung_share() -> None:
    result = finding("lungs")
    assert not result.low
    assert result.share.low > result.field_share


@pytest.mark.parametrize(("kind", "least"), [("corner", 0.4), ("lungs", 0.4)])
def test_the_heat_falls_on_the_planted_sign(kind: Kind, least: float) -> None:
    assert on_the_sign(kind).mean() > least > 1.5 * sign_area(kind, SIZE).mean()


def test_the_tables_have_the_columns_that_the_report_reads() -> None:
    for name, frame in tables("corner").items():
        assert set(FILES[name]) <= set(frame)
        assert frame["image_id"].is_unique
    assert set(tables("corner")["heatmaps"]["image_id"]) == set(
        trained_open_study("corner").predictions.image_id[shown_rows(trained_open_study("corner"))]
    )


def test_each_image_is_explained_by_the_network_of_its_fold() -> None:
    opened = trained_open_study("corner")
    fold_of = dict(zip(opened.predictions.image_id, opened.predictions.fold, strict=True))
    for frame in tables("corner").values():
        assert [fold_of[image_id] for image_id in frame["image_id"]] == list(frame["fold"])


def test_images_are_in_the_order_of_the_predictions() -> None:
    opened = trained_open_study("corner")
    rows = np.array([5, 0, 17])
    for row, image in zip(rows, images_of(opened, rows), strict=True):
        (place,) = np.flatnonzero(opened.data.image_ids == opened.predictions.image_id[row])
        assert (image == opened.data.images[place]).all()


def test_the_sample_is_seeded_and_limited_per_class() -> None:
    opened = trained_open_study("corner")
    rows = sampled_rows(opened, 7)
    assert list(rows) == list(sampled_rows(opened, 7))
    assert np.bincount(opened.predictions.label[rows]).max() == 7
    assert set(rows) <= set(sampled_rows(opened, 9))


def test_heat_is_divided_by_the_part_of_each_cell_in_the_lungs() -> None:
    widths, heights = np.array([300, 200]), np.array([200, 300])
    lungs = lung_fields(widths, heights, 24 * 4)
    cells = lungs.reshape(2, 24, 4, 24, 4).mean(axis=(2, 4))
    within, outside = (cells == 1).astype("float32"), (cells == 0).astype("float32")
    assert lung_shares(within, lungs, widths, heights)[0] == pytest.approx(1)
    assert lung_shares(outside, lungs, widths, heights)[0] == pytest.approx(0)
    padding = np.zeros((2, 24, 24), "float32")
    padding[0, 0], padding[1, :, 0] = 1, 1
    assert lung_shares(within + padding, lungs, widths, heights)[0].max() < 1
    assert lung_shares(within, lungs, widths, heights)[1] == pytest.approx(0.566, abs=0.02)


def test_the_size_of_the_image_need_not_be_a_multiple_of_the_maps() -> None:
    lungs = np.zeros((1, 90, 90), bool)
    lungs[:, :45] = True
    share, covered = lung_shares(np.ones((1, 23, 23), "float32"), lungs, np.array([1]), np.array([1]))
    assert share == pytest.approx(0.5, abs=0.01)
    assert covered == pytest.approx(0.5)


def test_a_map_of_zeros_has_no_share() -> None:
    lungs = np.ones((1, 96, 96), bool)
    share, _ = lung_shares(np.zeros((1, 24, 24), "float32"), lungs, np.array([1]), np.array([1]))
    assert np.isnan(share).all()
