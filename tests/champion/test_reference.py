"""Reference statistics: whose images, whose answers, and which column is which."""

import numpy as np

from cxr_platform.champion.reference import champion_reference
from cxr_platform.labels import CLASSES
from cxr_platform.monitoring.reference import Reference
from tests.champion.builders import COUNTS, made

IMAGES = sum(COUNTS.values())


def reference(shift: float = 0.0) -> Reference:
    rng = np.random.default_rng(3)
    probabilities = rng.dirichlet(np.ones(7), size=IMAGES)
    features = rng.normal(shift, 1, (IMAGES, 20))
    return champion_reference(probabilities, made().manifest, features, np.arange(IMAGES) // 2, seed=1)


def test_answers_are_those_of_the_probabilities() -> None:
    probabilities = np.random.default_rng(3).dirichlet(np.ones(7), size=IMAGES)
    found = reference()
    np.testing.assert_allclose(
        found.quantities["confidence"].quantiles[[0, -1]], np.sort(probabilities.max(1))[[0, -1]]
    )
    np.testing.assert_allclose(
        found.quantities["covid19"].quantiles[-1], probabilities[:, CLASSES.index("Covid19")].max()
    )
    assert found.labels["Edema"] == (probabilities.argmax(1) == CLASSES.index("Edema")).mean()


def test_looks_are_those_of_the_studys_images_and_of_no_external_one() -> None:
    """The one external image is all white: its mean is 1, its deviation 0, its padding the largest."""
    found, table = reference().quantities, made().manifest.table().to_pandas()
    study = table[table["role"] == "study"]
    assert len(study) == len(table) - 1
    for quantity, column in (("brightness", "mean"), ("contrast", "std"), ("padding", "padding_fraction")):
        assert found[quantity].n == IMAGES
        np.testing.assert_array_equal(found[quantity].quantiles[[0, -1]], [study[column].min(), study[column].max()])
    assert found["brightness"].quantiles[-1] < 1


def test_features_unlike_the_champions_lie_beyond_the_limit() -> None:
    found = reference()
    alike, unlike = np.random.default_rng(9).normal(0, 1, (200, 20)), np.random.default_rng(9).normal(6, 1, (200, 20))
    assert (found.distance(alike) <= found.limit).mean() > 0.97
    assert (found.distance(unlike) > found.limit).all()
