import numpy as np
import pytest

from cxr_platform.errors import FoldError
from cxr_platform.labels import CLASSES
from cxr_platform.manifest.folds import assign_folds, contrast_folds


def images(groups_per_class: int = 20, images_per_group: int = 3) -> tuple[list[str], list[str]]:
    """Labels and groups of a balanced set."""
    cells = [(c, g) for c in CLASSES for g in range(groups_per_class) for _ in range(images_per_group)]
    return [c for c, _ in cells], [f"{c}-{g}" for c, g in cells]


@pytest.mark.parametrize("n_folds", [2, 5, 10])
def test_each_group_is_in_one_grouped_fold_and_classes_are_balanced(n_folds: int) -> None:
    labels, groups = images()
    grouped, _ = assign_folds(labels, groups, n_folds, seed=1)
    assert all(len({f for f, g in zip(grouped, groups, strict=True) if g == name}) == 1 for name in set(groups))
    counts = np.array([[np.sum((grouped == f) & (np.array(labels) == c)) for c in CLASSES] for f in range(n_folds)])
    assert counts.min() >= 60 // n_folds - 3
    assert counts.max() <= 60 // n_folds + 3


def test_the_papers_folds_split_groups_and_are_of_equal_size() -> None:
    labels, groups = images()
    _, paper = assign_folds(labels, groups, 10, seed=1)
    assert np.bincount(paper).tolist() == [42] * 10
    assert any(len({f for f, g in zip(paper, groups, strict=True) if g == name}) > 1 for name in set(groups))


def test_folds_depend_on_the_seed_only() -> None:
    labels, groups = images()
    one, again, other = (assign_folds(labels, groups, 4, seed) for seed in (1, 1, 2))
    for split in range(2):
        assert np.array_equal(one[split], again[split])
        assert not np.array_equal(one[split], other[split])


def test_a_class_with_fewer_groups_than_folds_is_an_error_with_advice() -> None:
    labels, groups = images(groups_per_class=3)
    labels, groups = [*labels[3:]], [*groups[3:]]  # Covid19 keeps two of its three groups
    with pytest.raises(FoldError, match=r"at least 3 groups.*Received: Covid19 2\. Ask for 2 folds or fewer \(FOLDS\)"):
        assign_folds(labels, groups, 3, seed=1)


def test_a_class_without_images_is_an_error_too() -> None:
    labels, groups = images()
    rest = [i for i, label in enumerate(labels) if label != "Edema"]
    with pytest.raises(FoldError, match=r"Received: Edema 0\. Add images\."):
        assign_folds([labels[i] for i in rest], [groups[i] for i in rest], 2, seed=1)


def test_groups_that_leave_a_class_out_of_a_fold_are_an_error() -> None:
    """Two folds, and three groups of which each has images of two classes: one fold lacks one class."""
    labels = ["a", "a", "b", "b", "c", "c"]
    groups = ["1", "2", "2", "3", "1", "3"]
    with pytest.raises(FoldError, match=r"every class in every grouped fold.*no . in fold"):
        assign_folds(labels, groups, 2, seed=1, classes=("a", "b", "c"))


def test_contrast_images_join_the_fold_of_their_group_and_fill_the_folds_evenly() -> None:
    groups = ["p1", "p1", *(f"own-{i // 2}" for i in range(20)), "p2"]
    grouped, paper = contrast_folds(groups, {"p1": 2, "p2": 0, "other": 1}, 3, seed=1)
    assert grouped[[0, 1, -1]].tolist() == [2, 2, 0]
    assert all(grouped[i] == grouped[i + 1] for i in range(2, 22, 2))
    assert sorted(np.bincount(grouped)) == [7, 8, 8]
    assert sorted(np.bincount(paper)) == [7, 8, 8]
    again, others = contrast_folds(groups, {"p1": 2, "p2": 0}, 3, seed=1), contrast_folds(groups, {}, 3, seed=2)
    assert again[0].tolist() == grouped.tolist()
    assert again[1].tolist() == paper.tolist() != others[1].tolist()
    assert [len(folds) for folds in contrast_folds([], {}, 3, seed=1)] == [0, 0]


def test_one_fold_is_an_error() -> None:
    with pytest.raises(FoldError, match="at least 2 folds"):
        assign_folds(*images(), 1, seed=1)
