from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cxr_platform.errors import NotPossible
from cxr_platform.training.origin_folds import OriginFolds, manifest_origin_folds

ROWS = [  # role, source, label, group, grouped fold
    ("study", "east", "Covid19", "1", 0),
    ("study", "east", "Covid19", "2", 1),
    ("study", "east-2", "Normal", "3", 0),
    ("study", "east-2", "Normal", "4", 1),
    ("study", "west", "Covid19", "5", 0),
    ("study", "west", "Covid19", "6", 1),
    ("study", "west", "Normal", "7", 0),
    ("study", "west", "Edema", "8", 1),
    ("study", "west", "Normal", "3", 0),  # in the group of an image of east-2
    ("contrast", "east", None, "9", 1),
    ("contrast", "west", None, "10", 1),
    ("external", "north", "Normal", "11", -1),
]


def manifest(rows: list[tuple[str, str, str | None, str, int]] = ROWS, folds: int = 2) -> Any:
    names = ("role", "source", "label", "group_id", "fold_grouped")
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    table = pa.table({**columns, "fold_grouped": pa.array(columns["fold_grouped"], pa.int32())})
    return SimpleNamespace(table=table.select, info=SimpleNamespace(origins={"east-2": "east"}, folds=folds))


def rows_of(folds: OriginFolds) -> list[tuple[list[int], list[int]]]:
    return [
        (np.flatnonzero(test).tolist(), np.flatnonzero(train).tolist())
        for test, train in zip(folds.test, folds.train, strict=True)
    ]


def test_a_fold_tests_an_origin_and_a_grouped_fold_of_the_others_and_trains_on_the_rest() -> None:
    folds = manifest_origin_folds(manifest())
    assert folds.origins == ("east", "west")
    east, west = rows_of(folds)
    # Grouped fold 0 of west is held out too; the image in a group of east is in neither part.
    assert east == ([0, 1, 2, 3, 4, 6], [5, 7, 10])
    # It would be the turn of grouped fold 1 of east, without which Covid19 alone would be left.
    assert west == ([0, 4, 5, 6, 7, 8], [1, 3, 9])


def test_no_image_is_trained_on_and_tested_and_none_of_the_origin_is_trained_on() -> None:
    rng = np.random.default_rng(0)
    sources = ("east", "west", "north", "east-2")
    labels = ("Covid19", "Normal", "Edema")
    rows = [
        ("study", str(rng.choice(sources)), str(rng.choice(labels)), str(group), group % 3)
        for group in rng.integers(0, 90, 300).tolist()
    ]
    folds = manifest_origin_folds(manifest(rows, folds=3))
    origins = np.array(["east" if row[1] == "east-2" else row[1] for row in rows])
    groups = np.array([row[3] for row in rows])
    for fold, origin in enumerate(folds.origins):
        test, train = folds.test[fold], folds.train[fold]
        assert test[origins == origin].all()
        assert not train[origins == origin].any()
        assert not set(groups[test]) & set(groups[train])
        assert (test & (origins != origin)).any()


def test_an_origin_without_which_a_side_is_missing_is_not_left_out() -> None:
    more = [*ROWS, ("study", "south", "Normal", "12", 0), ("study", "south", "Normal", "13", 1)]
    alone = [row for row in more if row[1] != "west"]
    with pytest.raises(NotPossible, match=r"at least 2 origins.*Received: south of east, south"):
        manifest_origin_folds(manifest(alone))  # only east has Covid19
    assert "south" in manifest_origin_folds(manifest(more)).origins


def test_the_folds_of_some_images_keep_their_order() -> None:
    folds = manifest_origin_folds(manifest())
    part = folds.of(np.array([8, 0, 5]))
    assert part.origins == folds.origins
    np.testing.assert_array_equal(part.test, folds.test[:, [8, 0, 5]])
    np.testing.assert_array_equal(part.train, folds.train[:, [8, 0, 5]])
