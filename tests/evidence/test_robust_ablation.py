from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cxr_platform.config import RobustConfig, View
from cxr_platform.errors import NotPossible
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evidence import robust_ablation
from cxr_platform.evidence.robust_ablation import (
    AblationData,
    MixedLooks,
    head_answers,
    out_of_fold_answers,
    unseen_scores,
)
from cxr_platform.intake.mixed_looks import donors_of_looks
from cxr_platform.labels import class_index
from cxr_platform.training.robust_head import CONTRAST, LinearHead, fit_head

COVID19, NORMAL, PNEUMONIA = (class_index(name) for name in ("Covid19", "Normal", "Pneumonia"))
CELLS = {
    ("clinic", COVID19): 30, ("web", COVID19): 40, ("web", CONTRAST): 20, ("school", NORMAL): 50,
    ("school", PNEUMONIA): 30, ("town", NORMAL): 40, ("few", NORMAL): 3,
}  # fmt: skip


def drawn_data(seed: int = 1, cache: Path | None = None) -> AblationData:
    """Feature 0 tells Covid19, feature 1 pneumonia, the last two the origin."""
    rng = np.random.default_rng(seed)
    origins = np.concatenate([[origin] * count for (origin, _), count in CELLS.items()])
    labels = np.concatenate([[label] * count for (_, label), count in CELLS.items()])
    features = rng.normal(size=(len(labels), 4)).astype("float32")
    features[:, 0] += 2 * (labels == COVID19)
    features[:, 1] += 2 * (labels == PNEUMONIA)
    features[:, 2] += 3 * np.isin(origins, ["clinic", "web"])
    groups = np.array([f"{origin} {n // 2}" for n, origin in enumerate(origins)])
    views: dict[View, Array] = {"whole": features, "lungs": features + np.float32(0.1)}
    donors = donors_of_looks(origins, seed)
    looks = MixedLooks(donors, np.stack([features - np.float32(0.1 * look) for look in range(1, 1 + len(donors))]))
    return AblationData(labels, origins, groups, np.arange(len(labels)) // 2 % 3, views, cache, looks)


def test_pairs_are_of_two_origins_with_enough_images() -> None:
    assert list(drawn_data().pairs()) == [
        ("clinic", "school"), ("clinic", "town"), ("web", "school"), ("web", "town"),
    ]  # fmt: skip


def test_no_head_is_trained_on_an_origin_or_a_group_of_the_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    data = drawn_data()
    shared = np.flatnonzero(data.origins == "web")[:4]
    data.groups[shared] = data.groups[data.origins == "clinic"][0]
    fitted = []

    def zero_head(features: Array, labels: Array, origins: Array, *_: object) -> LinearHead:
        fitted.append((len(features), set(labels), set(origins)))
        return LinearHead(np.zeros((4, 7), "float32"), np.zeros(7, "float32"))

    monkeypatch.setattr(robust_ablation, "fit_head", zero_head)
    scored = unseen_scores(data, RobustConfig(), 1)
    assert fitted[0] == (36 + 43, {COVID19, NORMAL}, {"web", "town", "few"})  # four of a shared group are left out
    rows = scored["clinic", "school"].rows
    assert set(data.origins[rows]) == {"clinic", "school"}
    assert scored["clinic", "school"].positive.sum() == 30
    assert len(rows) == 110


def test_scores_rank_what_the_features_tell() -> None:
    for pair in unseen_scores(drawn_data(), RobustConfig(), 1).values():
        assert roc_auc_score(pair.positive, pair.scores) > 0.75
    data = drawn_data()
    answers = out_of_fold_answers(data, RobustConfig(), 1)
    assert answers is not None
    assert 0.6 < answers.right[data.labels != CONTRAST].mean() < 1
    assert not answers.right[data.labels == CONTRAST].any()
    assert not answers.indeterminate.any()


def test_a_study_of_two_origins_has_no_pair_to_test() -> None:
    data = drawn_data()
    kept = np.isin(data.origins, ["clinic", "school"])
    labels, origins, groups, folds = (each[kept] for each in (data.labels, data.origins, data.groups, data.folds))
    two = AblationData(labels, origins, groups, folds, {"whole": data.features["whole"][kept]})
    with pytest.raises(NotPossible, match="three origins"):
        unseen_scores(two, RobustConfig(), 1)


def test_contrast_images_are_trained_on_only_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = drawn_data(), []

    def recorded(features: Array, labels: Array, *rest: object) -> LinearHead:
        seen.append(bool((labels == CONTRAST).any()))
        return fit_head(features, labels, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(robust_ablation, "fit_head", recorded)
    rows = np.arange(len(data.labels))
    for contrast in (False, True):
        head_answers(data, rows, rows[:5], RobustConfig(contrast=contrast), 1)
    assert seen == [False, True]


def test_a_head_within_origins_needs_one_with_both_sides() -> None:
    data, config = drawn_data(), RobustConfig(last_layer="within", contrast=True)
    rows = np.arange(len(data.labels))
    assert head_answers(data, rows, rows[:5], config, 1) is not None
    assert head_answers(data, np.flatnonzero(data.origins != "web"), rows[:5], config, 1) is None


def test_a_pair_that_leaves_a_gate_no_second_head_is_left_out() -> None:
    data, config = drawn_data(), RobustConfig(contrast=True, gate=True)
    assert set(unseen_scores(data, config, 1)) == {("clinic", "school"), ("clinic", "town")}  # "web" alone has both
    assert len(unseen_scores(data, replace(config, gate=False), 1)) == 4


def test_a_gate_lowers_covid19_and_leaves_images_indeterminate_that_no_setting_without_it_does() -> None:
    data = drawn_data()
    rows = np.arange(len(data.labels))
    plain = RobustConfig(contrast=True)
    before, after = (head_answers(data, rows, rows, replace(plain, gate=gate), 1) for gate in (False, True))
    assert before is not None
    assert after is not None
    lower = after.probabilities[:, COVID19] < before.probabilities[:, COVID19]
    assert lower.any()
    assert (after.probabilities <= before.probabilities)[:, COVID19].all()
    np.testing.assert_allclose(after.probabilities.sum(axis=1), 1, rtol=1e-4)
    assert after.indeterminate.any()
    assert lower[after.indeterminate].all()
    assert not before.indeterminate.any()


def test_an_indeterminate_answer_is_not_right() -> None:
    data = drawn_data(seed=2)
    plain = RobustConfig(contrast=True)
    before, after = (out_of_fold_answers(data, replace(plain, gate=gate), 1) for gate in (False, True))
    assert before is not None
    assert after is not None
    assert after.indeterminate.any()
    assert not (after.right & after.indeterminate).any()
    assert (before.right == after.right)[~after.indeterminate].all()


def test_looks_are_of_donors_that_the_head_is_trained_on() -> None:
    """Neither those of the origins of a pair, nor those of a group or fold that is left out."""
    data = drawn_data()
    assert data.looks is not None
    away = np.isin(data.origins, ["clinic", "school"])
    data.groups[data.origins == "town"][:2] = data.groups[0]
    train = np.flatnonzero(~away & ~np.isin(data.groups, np.unique(data.groups[away])))
    kept, features = data.looks.among(train)
    assert set(kept) <= set(train)
    for row, look in zip(kept, features, strict=True):
        (number,) = np.flatnonzero((data.looks.features[:, row] == look).all(axis=1))
        assert data.looks.donors[number, row] in train
        assert not np.isin(data.looks.donors[:number, row], train).any()  # the first that may be taken


def test_an_image_without_such_a_donor_is_not_mixed() -> None:
    looks = MixedLooks(np.array([[1, 2, 0], [2, 0, 1]]), np.arange(6.0).reshape(2, 3, 1))
    kept, features = looks.among(np.array([0, 2]))
    assert kept.tolist() == [0, 2]
    assert features.ravel().tolist() == [3, 2]
    assert looks.among(np.array([1]))[0].tolist() == []


def test_no_feature_of_a_tested_origin_is_fitted_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The features of a look are marked with the origin of its donor: none of a pair's is among those of its head."""
    data, marks = drawn_data(), {name: place for place, name in enumerate(np.unique(drawn_data().origins))}
    assert data.looks is not None
    marked = np.vectorize(marks.__getitem__)(data.origins)
    looks = MixedLooks(data.looks.donors, np.repeat(marked[data.looks.donors][..., None], 4, axis=2).astype("float32"))
    fitted = []

    def recorded(features: Array, labels: Array, origins: Array, *rest: object) -> LinearHead:
        fitted.append((set(features[len(features) // 2 :, 0]), {marks[name] for name in origins}))
        return LinearHead(np.zeros((4, 7), "float32"), np.zeros(7, "float32"))

    monkeypatch.setattr(robust_ablation, "fit_head", recorded)
    unseen_scores(replace(data, looks=looks), RobustConfig(views=("lungs",), appearance="mixed"), 1)
    assert len(fitted) == 4
    for of_looks, origins in fitted:
        assert len(of_looks) > 1
        assert of_looks <= origins


def test_logits_are_kept_for_the_next_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RobustConfig(views=("whole", "lungs"), appearance="mixed")
    first = unseen_scores(drawn_data(cache=tmp_path), config, 1)
    assert len(list(tmp_path.glob("logits-*.npy"))) == 8
    monkeypatch.setattr(robust_ablation, "fit_head", None)
    again = unseen_scores(drawn_data(cache=tmp_path), config, 1)
    assert all((first[pair].scores == again[pair].scores).all() for pair in first)
    again_labels = drawn_data().labels
    other = replace(drawn_data(cache=tmp_path), labels=np.where(again_labels == PNEUMONIA, NORMAL, again_labels))
    for data, head in ((drawn_data(cache=tmp_path), replace(config, shrinkage=2.0)), (other, config)):
        with pytest.raises(TypeError):  # another head, or one fitted to other labels, is not among them
            unseen_scores(data, head, 1)


def test_logits_of_other_features_or_origins_are_not_taken(tmp_path: Path) -> None:
    first = unseen_scores(drawn_data(cache=tmp_path), RobustConfig(), 1)
    shifted = drawn_data(cache=tmp_path)
    features = {view: each[:, ::-1].copy() for view, each in shifted.features.items()}
    other = unseen_scores(replace(shifted, features=features), RobustConfig(), 1)
    assert all((first[pair].scores != other[pair].scores).any() for pair in first)
    files = len(list(tmp_path.glob("logits-*.npy")))
    origins = np.where(shifted.origins == "few", "fewer", shifted.origins)  # the same rows and labels
    unseen_scores(replace(shifted, origins=origins), RobustConfig(origin_penalty=1.0), 1)
    unseen_scores(shifted, RobustConfig(origin_penalty=1.0), 1)
    assert len(list(tmp_path.glob("logits-*.npy"))) == files + 2 * len(first)


def test_a_stop_while_logits_are_kept_leaves_no_file_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(file: object, *_: object) -> None:
        if isinstance(file, Path):
            file.write_bytes(b"cut")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("numpy.save", stopped)
        with pytest.raises(KeyboardInterrupt):
            unseen_scores(drawn_data(cache=tmp_path), RobustConfig(), 1)
    assert unseen_scores(drawn_data(cache=tmp_path), RobustConfig(), 1)
