"""Deletion and insertion by heat and at random, and maps of networks with shuffled weights, on planted signs."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from cxr_platform.errors import NotPossible
from cxr_platform.evaluation.evidence_files import FILES
from cxr_platform.evidence import faithfulness as made
from cxr_platform.evidence.faithfulness import (
    OTHER_IMAGE,
    SHARES,
    STAGES,
    altered,
    cell_ranks,
    faithfulness,
    similarity,
    smoothed,
)
from cxr_platform.evidence.fold_networks import fold_networks
from cxr_platform.training.trial import predict_images
from tests.evidence.trained import STRATEGY, trained_open_study


@cache
def tables() -> dict[str, pd.DataFrame]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "IMAGES_PER_CLASS", 4)
        patch.setattr(made, "SHARES", (0.0, 0.04, 1.0))
        return {name: table.to_pandas() for name, table in faithfulness(trained_open_study("corner")).items()}


def test_cells_are_removed_or_inserted_in_the_order_of_their_ranks() -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 16, 16)).astype(np.uint8)
    ranks = np.arange(16).reshape(1, 4, 4) / 16
    removed = smoothed(images)
    half = altered(images, removed, ranks, 0.5, "deletion")
    assert (half[:, 8:] == images[:, 8:]).all()
    assert (half[:, :8] != images[:, :8]).mean() > 0.9
    inserted = altered(images, removed, ranks, 0.5, "insertion")
    assert (inserted[:, :8] == images[:, :8]).all()
    assert (altered(images, removed, ranks, 0.0, "deletion") == images).all()
    odd = images[:, :15, :15]
    assert (altered(odd, smoothed(odd), ranks, 1.0, "insertion") == odd).all()
    assert (altered(images, removed, ranks, 1.0, "insertion") == images).all()
    assert (altered(images, removed, ranks, 1.0, "deletion") == altered(images, removed, ranks, 0.0, "insertion")).all()


def test_similar_maps_have_a_high_correlation_and_even_ones_none() -> None:
    maps = np.random.default_rng(1).random((3, 6, 6))
    compared = similarity(maps, np.stack([maps[0] ** 2, 1 - maps[1], np.zeros((6, 6))]))
    assert compared[:2] == pytest.approx([1, -1])
    assert np.isnan(compared[2])


def test_removing_a_planted_sign_by_heat_lowers_the_probability_faster_than_at_random() -> None:
    frame = tables()["faithfulness"]
    frame = frame[frame["label"] != "Normal"]  # recognised by what it lacks
    at = frame[frame["share"] == 0.04].groupby(["mode", "order"])["probability"].mean()
    assert at["deletion", "heatmap"] < at["deletion", "random"] - 0.1


def test_both_orders_begin_and_end_alike() -> None:
    frame = tables()["faithfulness"].set_index(["mode", "share", "image_id"])
    by_heat, random = (frame[frame["order"] == order]["probability"].sort_index() for order in ("heatmap", "random"))
    for mode, share in (("deletion", 0.0), ("deletion", 1.0), ("insertion", 0.0), ("insertion", 1.0)):
        assert by_heat[mode, share].to_numpy() == pytest.approx(random[mode, share].to_numpy(), abs=1e-5)


def test_maps_change_when_weights_are_shuffled_and_the_weights_come_back() -> None:
    opened, frame = trained_open_study("corner"), tables()["randomised"]
    assert set(frame["randomised"]) == {OTHER_IMAGE, *STAGES}
    assert frame["similarity"].dropna().between(-1, 1).all()
    stages = frame.groupby("randomised")["similarity"].mean()
    assert stages["head and last blocks"] < 0.95
    for name, part in tables().items():
        assert set(FILES[name]) <= set(part)
    for fold, network in fold_networks(opened, STRATEGY, [0]):
        rows = np.flatnonzero(opened.predictions.fold == fold)[:2]
        place = [list(opened.data.image_ids).index(name) for name in opened.predictions.image_id[rows]]
        again = predict_images(network, opened.data.images[place])
        assert again == pytest.approx(opened.predictions.probability[STRATEGY][rows], abs=0.02)


def test_shares_go_from_none_to_all() -> None:
    assert (SHARES[0], SHARES[-1]) == (0, 1)
    assert list(SHARES) == sorted(SHARES)


def test_places_without_heat_have_no_order_of_their_own() -> None:
    values = np.zeros((1, 10, 10))
    values[0, 9, 9] = 1
    ranks = cell_ranks(values, np.random.default_rng(2).random((1, 10, 10)))
    assert ranks[0, 9, 9] == 0
    assert np.sort(ranks.ravel()) == pytest.approx(np.arange(100) / 100)
    assert ranks[0, :5].mean() == pytest.approx(0.5, abs=0.1)  # in rows it would be 0.25


def test_empty_heatmaps_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = trained_open_study("corner")
    monkeypatch.setattr(made, "IMAGES_PER_CLASS", 2)
    monkeypatch.setattr(made, "heatmaps", lambda _network, images, _targets: np.zeros((len(images), 24, 24), "float32"))
    with pytest.raises(NotPossible, match="No heatmap"):
        faithfulness(opened)
