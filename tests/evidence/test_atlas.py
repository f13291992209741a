"""The atlas of networks whose training is known: what it says of images that were planted."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd

from cxr_platform.evaluation.evidence_files import FILES
from cxr_platform.evidence.atlas import FEATURES_A_CLASS, IMAGES_PER_FEATURE, atlas, shared_rows
from cxr_platform.evidence.networks import fold_networks
from cxr_platform.evidence.workspace import Workspace
from cxr_platform.explain.atlas import halves, penultimate
from cxr_platform.labels import CLASSES
from tests.evidence.builders import FOLDS, LABELS
from tests.evidence.trained import STRATEGY, trained_workspace


@cache
def tables() -> dict[str, pd.DataFrame]:
    return {name: table.to_pandas() for name, table in atlas(trained_workspace("lungs")).items()}


def test_the_tables_have_what_the_report_reads() -> None:
    assert set(tables()) == {"features", "atlas", "atlas_images"}
    for name, frame in tables().items():
        assert set(FILES[name]) <= set(frame)


def test_every_image_has_its_features_by_the_network_that_has_not_seen_it() -> None:
    workspace, frame = trained_workspace("lungs"), tables()["features"]
    assert sorted(frame["image_id"]) == sorted(workspace.data.image_ids)
    for fold, network in fold_networks(workspace, STRATEGY):
        rows = workspace.data.rows_of_fold(fold)
        mine = frame[frame["fold"] == fold]
        assert list(mine["image_id"]) == list(workspace.data.image_ids[rows])
        expected = penultimate(network, workspace.data.images[rows])
        assert np.abs(np.stack(mine["features"]) - expected).max() < 2e-3 * np.abs(expected).max()  # half precision


def test_the_best_features_of_a_class_hold_on_the_patients_they_were_not_chosen_on() -> None:
    frame = tables()["atlas"]
    assert (frame.groupby(["fold", "label"]).size() == FEATURES_A_CLASS).all()
    assert set(frame["label"]) == {CLASSES[label] for label in LABELS}
    assert frame["auc_held"].mean() > 0.85
    assert (frame["folds"] == FOLDS).all()
    assert frame["matched_folds"].between(1, FOLDS).all()


def test_sources_that_are_balanced_are_hardly_told_by_a_feature() -> None:
    frame = tables()["atlas"]
    assert set(frame["source"]) <= {"east", "west"}
    assert frame["auc_source"].mean() < 0.7


def test_the_images_shown_are_of_the_other_half_and_of_different_patients() -> None:
    workspace, frame = trained_workspace("lungs"), tables()["atlas_images"]
    group_of = dict(zip(workspace.data.image_ids, workspace.data.group_ids, strict=True))
    for (fold, _), images in frame.groupby(["fold", "feature"]):
        rows = workspace.data.rows_of_fold(fold)
        half = halves(workspace.data.group_ids[rows], workspace.profile.seed + fold)
        chosen_on = set(workspace.data.image_ids[rows[half]])
        assert not chosen_on & set(images["image_id"])
        for _, shown in images.groupby((images["rank"] == 0).cumsum()):
            assert list(shown["value"]) == sorted(shown["value"], reverse=True)
            assert shown["image_id"].map(group_of).is_unique
            assert len(shown) <= IMAGES_PER_FEATURE


def test_the_images_that_networks_are_compared_on_are_seeded() -> None:
    data = trained_workspace("lungs").data
    assert list(shared_rows(data, 3)) == list(shared_rows(data, 3))
    assert len(set(shared_rows(data, 3))) == len(data.labels)  # fewer than 300: all of them


def test_a_fold_without_an_image_of_a_class_has_no_like_of_its_features() -> None:
    """As the paper's protocol, which shuffles images, may draw it."""
    made = trained_workspace("lungs")
    data, last = made.data, FOLDS - 1
    moved = (data.folds == last) & (data.labels == LABELS[0])
    data = replace(data, folds=np.where(moved, 0, data.folds))
    workspace = Workspace(made.folder, made.study, made.predictions, STRATEGY, made.manifest, made.progress)
    workspace.__dict__.update(data=data, profile=made.profile, imagenet=made.imagenet)
    frame = atlas(workspace)["atlas"].to_pandas()
    of_class = frame[frame["label"] == CLASSES[LABELS[0]]]
    assert set(of_class["fold"]) == set(range(last))
    assert of_class["matched_folds"].max() < FOLDS
