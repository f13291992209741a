"""The operating point: how a calibrated Covid19 probability becomes positive, negative or indeterminate.

One definition, because the rates in a bundle and the answers of a server must follow the same rule.
"""

from typing import Any, TypeAlias

from pydantic import Field, model_validator
from typing_extensions import Self

from cxr_platform.config import Fraction
from cxr_platform.domain.interval import Rate
from cxr_platform.validation import Record

Zone: TypeAlias = tuple[Fraction, Fraction]
"""The indeterminate zone: probabilities from the lower to the upper end."""


class DecisionRule(Record):
    """The threshold for a target sensitivity, and the zone around it in which images are indeterminate.

    `zone` is the 95 % confidence interval of `threshold`.
    """

    target_sensitivity: float = Field(gt=0, le=1, description="Share of Covid19 images to call positive, 0 to 1.")
    threshold: Fraction
    zone: Zone = Field(description="Within it the decision is indeterminate.")

    @model_validator(mode="after")
    def _check_zone(self) -> Self:
        if self.zone[0] > self.zone[1]:
            raise ValueError(f"zone to rise, not {list(self.zone)}")
        return self


def is_positive(probability: Any, zone: Zone) -> Any:
    """Return True where a calibrated Covid19 probability (scalar or array) is at or above the upper end of `zone`."""
    return probability >= zone[1]


def is_negative(probability: Any, zone: Zone) -> Any:
    """Return True where a probability is below the lower end of `zone`; what is neither is indeterminate."""
    return probability < zone[0]


class DecisionRates(Record):
    """How often the rule decides what, in percent of out-of-fold images, each chosen without the image's fold."""

    true_positive: Rate = Field(description="Covid19 images called positive.")
    false_negative: Rate = Field(description="Covid19 images called negative.")
    true_negative: Rate = Field(description="Other images called negative.")
    false_positive: Rate = Field(description="Other images called positive.")
    indeterminate: Rate = Field(description="Images of both kinds that are called neither.")

    @model_validator(mode="after")
    def _check_sums(self) -> Self:
        for first, second in (("true_positive", "false_negative"), ("true_negative", "false_positive")):
            total = sum(getattr(self, name).value or 0.0 for name in (first, second))
            if total > 100 + 1e-6:
                raise ValueError(f"{first} and {second} of at most 100 % together, not {total:g}")
        return self


class OperatingPoint(DecisionRule):
    """A decision rule with its out-of-fold rates.

    Sensitivity and specificity are of the threshold alone, by which images in the zone count too.
    """

    sensitivity: Rate = Field(description="Of the threshold alone, in percent, out-of-fold.")
    specificity: Rate = Field(description="Of the threshold alone, in percent, out-of-fold.")
    decisions: DecisionRates
