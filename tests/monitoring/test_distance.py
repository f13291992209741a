import numpy as np
import pytest

from cxr_platform.errors import BundleError
from cxr_platform.monitoring.distance import fit_distance
from tests.monitoring.builders import FEATURES, draw


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return draw(np.random.default_rng(3), 1200)["features"]


def test_similar_images_have_a_distance_of_the_root_of_the_number_of_features(features: np.ndarray) -> None:
    model, distances = fit_distance(features[:1000], np.arange(1000), seed=0)
    unseen = model(features[1000:])
    assert np.median(unseen) == pytest.approx(np.sqrt(FEATURES), rel=0.1)
    assert np.median(distances) == pytest.approx(np.median(unseen), rel=0.05)


def test_images_far_along_and_far_off_the_components_are_beyond_the_limit(features: np.ndarray) -> None:
    model, _ = fit_distance(features, np.arange(len(features)), seed=0)
    beside = features[0] * (1 + 0.05 * np.random.default_rng(9).normal(size=FEATURES))
    far = (model.mean + 30 * model.scale[0] * model.basis[0]) ** 2
    assert (model(np.stack([beside, far])) > model.limit).all()
    assert (model(features) > model.limit).mean() < 0.01


def test_distances_are_cross_fitted_over_patients(features: np.ndarray) -> None:
    """Twenty unusual images of one patient keep large distances."""
    odd = features.copy()
    odd[:20] *= 1 + 0.1 * np.random.default_rng(5).normal(size=FEATURES)
    patients = np.arange(len(odd))
    apart = fit_distance(odd, patients, seed=0)[1][:20]
    patients[:20] = 0
    together = fit_distance(odd, patients, seed=0)[1][:20]
    assert together.min() > 2 * apart.max()


def test_features_that_are_always_zero_do_not_make_distances_infinite() -> None:
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.random((50, 2)), np.zeros((50, 3))], axis=1)
    model, distances = fit_distance(features, np.arange(50), seed=0)
    assert np.isfinite(distances).all()
    assert np.isfinite(model(np.ones((1, 5)))).all()
    assert np.isfinite(fit_distance(np.zeros((4, 5)), np.arange(4), seed=0)[1]).all()


def test_unusable_features_are_an_error(features: np.ndarray) -> None:
    with pytest.raises(BundleError, match="at least two patients"):
        fit_distance(features, np.zeros(len(features)), seed=0)
    with pytest.raises(BundleError, match="finite features"):
        fit_distance(np.where(features > features.mean(), np.nan, features), np.arange(len(features)), seed=0)
    with pytest.raises(BundleError, match="group of each"):
        fit_distance(features, np.arange(3), seed=0)
    model, _ = fit_distance(features, np.arange(len(features)), seed=0)
    with pytest.raises(BundleError, match=rf"Expected features \(B, {FEATURES}\)"):
        model(features[:, :7])
