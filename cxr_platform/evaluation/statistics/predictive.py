"""What a call of "Covid19" is worth where the disease is as frequent as stated.

The share of Covid19 among a study's images is its makers' choice, so predictive values counted on them hold nowhere
else. Bayes' rule gives them from sensitivity and specificity at a prevalence that is said (Altman & Bland 1994,
BMJ 309:102).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

PREVALENCES = (0.01, 0.05, 0.20)


def predictive_values(
    sensitivity: "np.ndarray", specificity: "np.ndarray", prevalence: float
) -> "tuple[np.ndarray, np.ndarray]":
    """PPV and NPV in percent from rates in percent, at `prevalence` from 0 to 1.

    NaN where there would be no call at all of that kind, or a rate is NaN.
    """
    import numpy as np

    found, missed = sensitivity * prevalence, (100 - sensitivity) * prevalence
    spared, alarms = specificity * (1 - prevalence), (100 - specificity) * (1 - prevalence)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 100 * found / (found + alarms), 100 * spared / (spared + missed)
