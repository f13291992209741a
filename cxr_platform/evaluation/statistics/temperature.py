"""Temperature scaling: one number that makes a network's probabilities as sure as it is right (Guo et al. 2017, §4.2).

Out-of-fold probabilities are the softmax of logits, so their logarithm is the logits but for a constant, which softmax
drops again. Scaling keeps the order of the classes: no decision by the likeliest class changes.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LOG_BOUNDS = (-3.0, 3.0)  # temperatures from 0.05 to 20


def fit_temperature(probability: "np.ndarray", label: "np.ndarray") -> float:
    """The temperature with the lowest negative log likelihood of `label` (N,) under `probability` (N, 7).

    Above 1 for a network that is too sure. Searched from 0.05 to 20: images that are all right, or all wrong, would
    drive it to 0 or beyond every bound.
    """
    import math

    from scipy.optimize import minimize_scalar

    logits = _logits(probability)
    found = minimize_scalar(lambda log_t: _loss(logits / math.exp(log_t), label), bounds=LOG_BOUNDS, method="bounded")
    return math.exp(float(found.x))


def scale(probability: "np.ndarray", temperature: "float | np.ndarray") -> "np.ndarray":
    """(N, 7) probabilities at `temperature`: one for all images, or (N,) one for each."""
    import numpy as np
    from scipy.special import softmax

    return softmax(_logits(probability) / np.reshape(temperature, (-1, 1)), axis=1)


def fold_temperatures(probability: "np.ndarray", label: "np.ndarray", fold: "np.ndarray", folds: int) -> "np.ndarray":
    """(folds,) temperatures; that of fold k is fitted on the images of all other folds and never sees those of k.

    The other folds were predicted by networks of their own, of the same recipe: it is the recipe that is calibrated.
    """
    import numpy as np

    return np.array([fit_temperature(probability[fold != k], label[fold != k]) for k in range(folds)])


def log_losses(label: "np.ndarray", probability: "np.ndarray") -> "np.ndarray":
    """(N,) negative log likelihoods in nats."""
    import numpy as np

    return -np.log(_positive(probability[np.arange(len(label)), label]))


def _logits(probability: "np.ndarray") -> "np.ndarray":
    import numpy as np

    return np.log(_positive(probability))


def _positive(probability: "np.ndarray") -> "np.ndarray":
    """What float32 rounded to 0 was smaller than its least number, and gets that."""
    import numpy as np

    return np.maximum(np.asarray(probability, dtype=float), np.finfo(np.float32).tiny)


def _loss(logits: "np.ndarray", label: "np.ndarray") -> float:
    import numpy as np
    from scipy.special import log_softmax

    return -float(log_softmax(logits, axis=1)[np.arange(len(label)), label].mean())
