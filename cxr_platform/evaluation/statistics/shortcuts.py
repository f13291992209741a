"""Rates of a shortcut probe, and whether it is a shortcut: what it keeps of its control's lead over chance."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

MAX_SHARE_KEPT = 0.5
RULE = (
    "A probe counts as a shortcut if it keeps more than half of the lead over chance of the model that it is compared "
    "with, and the lower bound of its interval is above chance. Chance is the share of the most frequent class."
)
NOT_PROBED = -1
"""In place of a class: large studies are sampled (`evidence.open_study`)."""


class ProbeRates(NamedTuple):
    """7-class accuracy, Covid19 sensitivity and specificity, in percent."""

    accuracy: Interval
    sensitivity: Interval
    specificity: Interval


def probe_rates(bootstrap: Bootstrap, labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> ProbeRates:
    """Return the rates of predicted positions in `CLASSES` (N,), among the images that have one."""
    positive, probed = CLASSES.index(POSITIVE_CLASS), predicted != NOT_PROBED
    right = (labels == positive) == (predicted == positive)
    return ProbeRates(
        bootstrap.rate(labels == predicted, probed),
        bootstrap.rate(right, probed & (labels == positive)),
        bootstrap.rate(right, probed & (labels != positive)),
    )


def predicted_classes(rows: pd.DataFrame, image_ids: NDArray[np.object_]) -> NDArray[np.int64]:
    """Return predicted positions in `CLASSES` (N,) in the order of `image_ids`, `NOT_PROBED` for other images."""
    positions = pd.Series(rows[list(PROBABILITY_COLUMNS)].to_numpy().argmax(axis=1), rows["image_id"])
    return positions.reindex(image_ids.tolist(), fill_value=NOT_PROBED).to_numpy()


def share_kept(probe: float | None, control: float | None, chance: float | None) -> float | None:
    """Return (probe − chance) / (control − chance), from accuracies in percent.

    The share is negative if the probe is below chance, and above 1 if it is better than the control. `None` if the
    control is not better than chance, or a value is undefined.
    """
    if probe is None or control is None or chance is None or control <= chance:
        return None
    return (probe - chance) / (control - chance)


def exceeds_chance(accuracy: Interval, chance: float | None) -> bool:
    """Return True if the whole interval of `accuracy` is above chance."""
    return chance is not None and accuracy.low is not None and accuracy.low > chance


def is_shortcut(probe: Interval, control: Interval, chance: float | None) -> bool:
    """Return True if the probe meets `RULE`; False if the control is not significantly better than chance."""
    kept = share_kept(probe.value, control.value, chance)
    if kept is None or not exceeds_chance(control, chance):
        return False
    return kept > MAX_SHARE_KEPT and exceeds_chance(probe, chance)
