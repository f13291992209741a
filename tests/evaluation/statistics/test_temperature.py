import numpy as np
import pytest
from sklearn.metrics import log_loss

from cxr_platform.evaluation.statistics.temperature import fit_temperature, fold_temperatures, log_losses, scale
from tests.evaluation.statistics.made_up import overconfident


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.8, 4.0])
def test_the_temperature_of_simulated_logits_is_recovered_within_5_percent(temperature):
    label, probability = overconfident(4000, temperature)

    assert fit_temperature(probability, label) == pytest.approx(temperature, rel=0.05)


def test_scaling_at_the_planted_temperature_gives_the_calibrated_probabilities_back():
    _, sure = overconfident(50, 3.0)
    _, calibrated = overconfident(50, 1.0)

    assert scale(sure, 3.0) == pytest.approx(calibrated)
    assert scale(sure, np.full(50, 3.0)) == pytest.approx(calibrated)
    assert (scale(sure, 3.0).argmax(axis=1) == sure.argmax(axis=1)).all()


def test_each_image_can_have_its_own_temperature():
    _, sure = overconfident(4, 2.0)
    mixed = scale(sure, np.array([1.0, 2.0, 1.0, 2.0]))

    assert mixed[::2] == pytest.approx(sure[::2])
    assert mixed[1::2] == pytest.approx(scale(sure, 2.0)[1::2])


def test_a_folds_temperature_never_sees_the_fold():
    label, probability = overconfident(900, 2.0)
    fold = np.arange(900) % 3
    honest = fold_temperatures(probability, label, fold, 3)
    spoilt = np.where(fold == 0, (label + 1) % 7, label)

    changed = fold_temperatures(probability, spoilt, fold, 3)

    assert changed[0] == honest[0]
    assert (changed[1:] != honest[1:]).all()


def test_probabilities_of_0_and_images_that_are_all_right_stay_finite():
    label = np.arange(70) % 7
    certain = np.eye(7)[label]

    assert np.isfinite(scale(certain, 2.0)).all()
    assert 0.04 < fit_temperature(0.9 * certain + 0.1 / 7, label) < 0.1
    assert 19 < fit_temperature(certain, (label + 1) % 7) < 21
    assert np.isfinite(log_losses((label + 1) % 7, certain)).all()


def test_log_losses_are_scikit_learns():
    label, probability = overconfident(200, 1.0)

    assert log_losses(label, probability).mean() == pytest.approx(log_loss(label, probability, labels=range(7)))
