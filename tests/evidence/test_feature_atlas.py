"""The atlas of networks trained on planted images, whose features are known."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd

from cxr_platform.evaluation.evidence_files import FILES
from cxr_platform.evidence.feature_atlas import FEATURES_PER_CLASS, IMAGES_PER_FEATURE, feature_atlas, shared_rows
from cxr_platform.evidence.fold_networks import fold_networks
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.explain.feature_ranking import penultimate, random_half
from cxr_platform.labels import CLASSES
from tests.evidence.builders import FOLDS, LABELS
from tests.evidence.trained import STRATEGY, trained_open_study


@cache
def tables() -> dict[str, pd.DataFrame]:
    return {name: table.to_pandas() for name, table in feature_atlas(trained_open_study("lungs")).items()}


def test_the_tables_have_the_columns_that_the_report_reads() -> None:
    assert set(tables()) == {"features", "atlas", "atlas_images"}
    for name, frame in tables().items():
        assert set(FILES[name]) <= set(frame)


def test_the_features_of_an_image_are_by_the_network_of_its_fold() -> None:
    opened, frame = trained_open_study("lungs"), tables()["features"]
    assert sorted(frame["image_id"]) == sorted(opened.data.image_ids)
    for fold, network in fold_networks(opened, STRATEGY):
        rows = opened.data.rows_of_fold(fold)
        mine = frame[frame["fold"] == fold]
        assert list(mine["image_id"]) == list(opened.data.image_ids[rows])
        expected = penultimate(network, opened.data.images[rows])
        assert np.abs(np.stack(mine["features"]) - expected).max() < 2e-3 * np.abs(expected).max()  # half precision


def test_the_top_features_of_a_class_separate_it_on_other_patients() -> None:
    frame = tables()["atlas"]
    assert (frame.groupby(["fold", "label"]).size() == FEATURES_PER_CLASS).all()
    assert set(frame["label"]) == {CLASSES[label] for label in LABELS}
    assert frame["auc_held"].mean() > 0.85
    assert (frame["folds"] == FOLDS).all()
    assert frame["matched_folds"].between(1, FOLDS).all()


def test_a_feature_hardly_separates_balanced_sources() -> None:
    frame = tables()["atlas"]
    assert set(frame["source"]) <= {"east", "west"}
    assert frame["auc_source"].mean() < 0.7


def test_top_images_are_of_the_other_half_and_of_different_patients() -> None:
    opened, frame = trained_open_study("lungs"), tables()["atlas_images"]
    group_of = dict(zip(opened.data.image_ids, opened.data.group_ids, strict=True))
    for (fold, _), images in frame.groupby(["fold", "feature"]):
        rows = opened.data.rows_of_fold(fold)
        half = random_half(opened.data.group_ids[rows], opened.profile.seed + fold)
        chosen_on = set(opened.data.image_ids[rows[half]])
        assert not chosen_on & set(images["image_id"])
        for _, shown in images.groupby((images["rank"] == 0).cumsum()):
            assert list(shown["value"]) == sorted(shown["value"], reverse=True)
            assert shown["image_id"].map(group_of).is_unique
            assert len(shown) <= IMAGES_PER_FEATURE


def test_the_shared_images_are_drawn_with_the_seed() -> None:
    data = trained_open_study("lungs").data
    assert list(shared_rows(data, 3)) == list(shared_rows(data, 3))
    assert len(set(shared_rows(data, 3))) == len(data.labels)  # fewer than 300: all of them


def test_a_fold_without_images_of_a_class_matches_none_of_its_features() -> None:
    """As the paper's protocol, which shuffles images, may draw it."""
    made = trained_open_study("lungs")
    data, last = made.data, FOLDS - 1
    moved = (data.folds == last) & (data.labels == LABELS[0])
    data = replace(data, folds=np.where(moved, 0, data.folds))
    opened = OpenStudy(made.folder, made.study, made.predictions, STRATEGY, made.manifest, made.progress)
    opened.__dict__.update(data=data, profile=made.profile, imagenet=made.imagenet)
    frame = feature_atlas(opened)["atlas"].to_pandas()
    of_class = frame[frame["label"] == CLASSES[LABELS[0]]]
    assert set(of_class["fold"]) == set(range(last))
    assert of_class["matched_folds"].max() < FOLDS
