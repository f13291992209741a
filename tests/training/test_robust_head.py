from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cxr_platform.config import RobustConfig
from cxr_platform.evaluation.predictions import Array
from cxr_platform.labels import CLASSES, class_index
from cxr_platform.training.robust_head import (
    CONTRAST,
    class_probabilities,
    covariance_differences,
    fit_head,
    image_weights,
    mean_differences,
    targets,
)

COVID19, NORMAL, PNEUMONIA = (class_index(name) for name in ("Covid19", "Normal", "Pneumonia"))
PLAIN = RobustConfig(shrinkage=0.01)
CLASS, ORIGIN = 0, 1
"""Features that tell the class weakly, and the origin strongly."""


def drawn(seed: int, count: int = 600) -> tuple[Array, Array, Array]:
    """Two classes; Covid19 is mostly of origins a and b, Normal of c and d, and each origin shifts feature 1."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([COVID19, NORMAL], count // 2)
    origins = np.where(labels == COVID19, rng.choice(["a", "b"], count), rng.choice(["c", "d"], count))
    features = rng.normal(size=(count, 5))
    features[:, CLASS] += np.where(labels == COVID19, 1.0, -1.0)
    shifts = {"a": 4.0, "b": 1.0, "c": -1.0, "d": -4.0}
    features[:, ORIGIN] += np.array([shifts[origin] for origin in origins])
    return features.astype("float32"), labels, origins


def reliance(features: Array, labels: Array, origins: Array, config: RobustConfig) -> float:
    """Weight of the feature of the origin relative to that of the class, for Covid19 against Normal."""
    weights = fit_head(features, labels, origins, config).weights
    against = weights[:, COVID19] - weights[:, NORMAL]
    return float(abs(against[ORIGIN] / against[CLASS]))


def test_the_plain_head_is_least_squares_with_a_bias() -> None:
    features, labels, origins = drawn(1)
    head = fit_head(features, labels, origins, replace(PLAIN, shrinkage=1e-6))
    design = np.column_stack([features, np.ones(len(features))])
    expected = np.linalg.lstsq(design, targets(labels), rcond=None)[0]
    np.testing.assert_allclose(head.logits(features) / 10, design @ expected, atol=2e-3)
    assert head.weights.shape == (5, len(CLASSES))
    assert head.weights.dtype == head.bias.dtype == np.float32


@pytest.mark.parametrize("changes", [{"origin_penalty": 10.0}, {"group_dro": True}, {"coral": 100.0}])
def test_each_option_changes_the_head(changes: dict[str, Any]) -> None:
    features, labels, origins = drawn(2)
    features[origins == "a", 2] *= 3  # a covariance that differs
    plain, other = (fit_head(features, labels, origins, config) for config in (PLAIN, replace(PLAIN, **changes)))
    assert np.abs(plain.weights - other.weights).max() > 1e-3


def test_a_penalty_on_origins_takes_weight_from_what_tells_origins_apart() -> None:
    data = drawn(3)
    assert reliance(*data, replace(PLAIN, origin_penalty=10.0)) < 0.3 * reliance(*data, PLAIN)


def test_coral_takes_weight_from_a_feature_whose_spread_differs_between_origins() -> None:
    features, labels, origins = drawn(4)
    features[:, 3] += np.where(labels == COVID19, 1.0, -1.0)
    features[origins == "a", 3] *= 4
    plain, other = (fit_head(features, labels, origins, replace(PLAIN, coral=value)) for value in (0.0, 10.0))
    assert abs(other.weights[3, COVID19]) < 0.5 * abs(plain.weights[3, COVID19])


def test_shrinkage_makes_weights_smaller() -> None:
    data = drawn(5)
    sizes = [np.abs(fit_head(*data, replace(PLAIN, shrinkage=value)).weights).max() for value in (0.01, 10.0)]
    assert sizes[1] < 0.3 * sizes[0]


def test_balanced_weights_give_classes_and_origins_equal_sums() -> None:
    labels = np.array([0] * 90 + [5] * 300)
    origins = np.array(["a"] * 30 + ["b"] * 60 + ["c"] * 300)
    by_class, by_origin = (image_weights(labels, origins, kind) for kind in ("class", "class-origin"))
    assert by_class[:90].sum() == pytest.approx(by_class[90:].sum())
    assert by_origin[:30].sum() == pytest.approx(by_origin[30:90].sum())
    assert by_origin[:90].sum() == pytest.approx(by_origin[90:].sum())
    assert (image_weights(labels, origins, "none") == 1).all()
    assert by_origin.mean() == pytest.approx(1)


def test_a_handful_of_images_does_not_weigh_as_much_as_hundreds() -> None:
    labels, origins = np.array([0] * 2 + [5] * 300), np.array(["a"] * 302)
    weights = image_weights(labels, origins, "class-origin")
    assert weights[0] / weights[-1] == pytest.approx(300 / 20)


def test_targets_of_contrast_images_are_any_class_but_covid19() -> None:
    known, contrast = targets(np.array([NORMAL, CONTRAST]))
    assert known[NORMAL] == known.sum() == 1
    assert contrast[COVID19] == 0
    assert set(np.delete(contrast, COVID19)) == {np.float32(1 / 6)}


def test_contrast_images_lower_the_score_of_what_they_look_like() -> None:
    features, labels, origins = drawn(6)
    other = features[origins == "a"] + np.array([0, 0, 0, 0, 3], "float32")
    mixed = fit_head(
        np.concatenate([features, other]),
        np.append(labels, [CONTRAST] * len(other)),
        np.append(origins, ["a"] * len(other)),
        PLAIN,
    )
    before, after = (
        head.logits(other)[:, COVID19].mean() for head in (fit_head(features, labels, origins, PLAIN), mixed)
    )
    assert after < before


def test_dfr_is_fitted_to_equally_many_images_of_each_cell() -> None:
    _, labels, origins = drawn(7, count=2000)
    features = (
        np.random.default_rng(7).normal(size=(len(labels), 5)).astype("float32")
    )  # tell nothing: scores are shares
    rare = (labels == COVID19) & (origins == "a")
    kept = ~rare | (np.cumsum(rare) <= 25)  # of one cell 25 images are left
    data = features[kept], labels[kept], origins[kept]
    head, again = (fit_head(*data, replace(PLAIN, last_layer="balanced"), seed=1) for _ in range(2))
    assert (head.weights == again.weights).all()
    plain, balance = (each.logits(data[0])[:, COVID19].mean() / 10 for each in (fit_head(*data, PLAIN), head))
    assert plain == pytest.approx(data[1].tolist().count(COVID19) / len(data[1]), abs=0.01)  # a third
    assert balance > plain + 0.03  # half of the drawn images have Covid19


def test_differences_between_origins_are_zero_with_one_origin_a_class() -> None:
    features, labels, _ = drawn(8)
    assert not mean_differences(features, labels, labels.astype(str)).any()
    same = covariance_differences(features, labels, np.array(["a"] * len(labels)))
    np.testing.assert_allclose(same, 0, atol=1e-6)


def test_covid19_against_normal_ignores_the_other_classes() -> None:
    logits = np.random.default_rng(4).normal(size=(20, len(CLASSES)))
    config = RobustConfig(against="normal", margin=1.0)
    probabilities = class_probabilities(logits, config)
    expected = 1 / (1 + np.exp(-(logits[:, COVID19] - logits[:, NORMAL] - 1)))
    np.testing.assert_allclose(probabilities[:, COVID19], expected)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    logits[:, PNEUMONIA] += 5
    np.testing.assert_allclose(class_probabilities(logits, config)[:, COVID19], expected)
    assert (class_probabilities(logits, RobustConfig())[:, COVID19] < expected).all()
