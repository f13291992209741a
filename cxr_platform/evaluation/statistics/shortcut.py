"""When does a probe know too much?"""

from cxr_platform.domain.interval import Interval

MOST_KEPT = 0.5
RULE = (
    "A probe counts as a shortcut when it keeps more than half of the lead over chance that the model has to which it "
    "is compared, and the lower bound of its interval is above chance. Chance is the share of the most frequent class."
)


def share_kept(probe: float | None, control: float | None, chance: float | None) -> float | None:
    """Share, 0 to 1 and beyond, of the control's lead over chance that the probe has as well; accuracies in percent.

    `None` where the control has no lead that could be kept.
    """
    if probe is None or control is None or chance is None or control <= chance:
        return None
    return (probe - chance) / (control - chance)


def exceeds_chance(model: Interval, chance: float | None) -> bool:
    """Whether the model's whole interval lies above chance."""
    return chance is not None and model.low is not None and model.low > chance


def is_shortcut(probe: Interval, control: Interval, chance: float | None) -> bool:
    """`RULE`. Without a control that is better than chance there is nothing that a shortcut could explain."""
    kept = share_kept(probe.value, control.value, chance)
    if kept is None or not exceeds_chance(control, chance):
        return False
    return kept > MOST_KEPT and exceeds_chance(probe, chance)
