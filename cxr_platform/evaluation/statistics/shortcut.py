"""The rule by which a probe counts as a shortcut.

A probe is a classifier that sees only part of an image or of its file's facts; its control is the model that sees the
whole image. Both have a 7-class accuracy in percent. The probes are trained in `evidence.shortcut_probes`.
"""

from cxr_platform.domain.interval import Interval

MAX_SHARE_KEPT = 0.5
RULE = (
    "A probe counts as a shortcut if it keeps more than half of the lead over chance of the model that it is compared "
    "with, and the lower bound of its interval is above chance. Chance is the share of the most frequent class."
)


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
