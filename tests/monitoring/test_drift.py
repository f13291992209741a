import threading
from dataclasses import replace

import numpy as np
import pytest

from cxr_platform.errors import ConfigError
from cxr_platform.monitoring.drift import LABELS, PSI_CHANGED, PSI_STABLE, Observation, Window, drift, psi
from cxr_platform.monitoring.reference import QUANTITIES, Reference
from tests.monitoring.builders import draw, make_reference, observations, window_of

PLAIN = Observation("Normal", 0.9, 0.05, 0.5, 0.2, 0.0, 3.0)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return make_reference()


def same_sort(reference: Reference, images: int = 1000, seed: int = 7) -> list[Observation]:
    return observations(draw(np.random.default_rng(seed), images), reference)


def test_ks_equals_scipy_also_with_ties(reference: Reference) -> None:
    from scipy.stats import ks_2samp

    window = window_of([*same_sort(reference), *[PLAIN] * 50])
    values, _ = window.contents()
    for name, measured in drift(window, reference).items():
        if name != LABELS:
            expected = ks_2samp(values[name], reference.quantities[name].quantiles, method="asymp").statistic
            assert measured.ks == float(expected), name


def test_similar_images_do_not_drift(reference: Reference) -> None:
    drifts = drift(window_of(same_sort(reference)), reference)
    assert set(drifts) == {*QUANTITIES, LABELS}
    assert all(d.psi < PSI_STABLE / 2 and d.n == 1000 for d in drifts.values())
    assert all(d.ks is not None and d.ks < 0.06 for name, d in drifts.items() if name != LABELS)
    assert drifts[LABELS].ks is None


@pytest.mark.parametrize("name", QUANTITIES)
def test_a_shift_is_a_drift_of_its_quantity_alone(reference: Reference, name: str) -> None:
    spread = float(np.std(reference.quantities[name].quantiles))
    images = [replace(image, **{name: getattr(image, name) + spread}) for image in same_sort(reference)]
    drifts = drift(window_of(images), reference)
    assert drifts[name].psi > PSI_CHANGED
    assert (drifts[name].ks or 0) > 0.3
    assert all(d.psi < PSI_STABLE for other, d in drifts.items() if other != name)


def test_other_shares_of_predictions_are_a_drift_of_labels(reference: Reference) -> None:
    images = [replace(image, label="Covid19") if i % 3 == 0 else image for i, image in enumerate(same_sort(reference))]
    assert drift(window_of(images), reference)[LABELS].psi > PSI_CHANGED


def test_psi_equals_the_formula() -> None:
    a, e = np.array([100.5, 200.5, 300.5]), np.array([200.5, 200.5, 200.5])
    a, e = a / a.sum(), e / e.sum()
    assert psi(np.array([100, 200, 300]), np.array([200, 200, 200])) == pytest.approx(((a - e) * np.log(a / e)).sum())
    assert psi(np.array([5, 5]), np.array([500, 500])) == 0
    assert np.isfinite(psi(np.array([0, 10]), np.array([10, 0])))


@pytest.mark.parametrize("images", [200, 1000])
def test_psi_of_unchanged_images_is_as_documented(reference: Reference, images: int) -> None:
    drifts = [drift(window_of(same_sort(reference, images, seed)), reference) for seed in range(30)]
    expected = 9 * (1 / images + 1 / 2000)
    assert np.mean([d["brightness"].psi for d in drifts]) == pytest.approx(expected, rel=0.3)
    assert max(d["brightness"].psi for d in drifts) < PSI_STABLE + 0.02 * (images < 1000)
    assert np.quantile([d["brightness"].ks or 1 for d in drifts], 0.9) < 1.36 * np.sqrt(1 / images + 1 / 2000)


def test_a_value_that_most_images_share_is_one_bin(reference: Reference) -> None:
    """Two in three images have no padding, so that their bin holds two in three images, not a tenth."""
    padded = [replace(image, padding=0.15) for image in same_sort(reference)]
    bare = [replace(image, padding=0.0) for image in same_sort(reference)]
    assert drift(window_of(padded), reference)["padding"].psi > 1
    assert PSI_CHANGED < drift(window_of(bare), reference)["padding"].psi < 3


def test_a_constant_quantity_drifts_as_soon_as_it_varies() -> None:
    arrays = draw(np.random.default_rng(1), 500) | {"padding": np.zeros(500)}
    from cxr_platform.monitoring.reference import build_reference

    constant = build_reference(**arrays)
    images = observations(arrays, constant)
    assert drift(window_of(images), constant)["padding"].psi == pytest.approx(0, abs=1e-3)
    changed = drift(window_of([replace(image, padding=0.2) for image in images]), constant)["padding"]
    assert changed.psi > 1
    assert changed.ks == pytest.approx(1, abs=0.01)


def test_the_window_drops_the_oldest_images(reference: Reference) -> None:
    window = window_of([replace(PLAIN, brightness=0.0)] * 50, size=100)
    for _ in range(100):
        window.add(PLAIN)
    values, labels = window.contents()
    assert len(window) == len(labels) == 100
    assert set(values["brightness"]) == {np.float32(0.5)}


def test_an_empty_window_has_no_drift(reference: Reference) -> None:
    assert drift(Window(), reference) == {}


def test_several_threads_may_fill_one_window() -> None:
    window = Window(5000)
    threads = [threading.Thread(target=lambda: [window.add(PLAIN) for _ in range(1000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(window) == 4000


def test_a_wrong_label_or_size_is_an_error() -> None:
    with pytest.raises(KeyError, match="Covid19"):
        Window().add(replace(PLAIN, label="Cardiomegaly"))
    with pytest.raises(ConfigError, match="one image or more"):
        Window(0)
