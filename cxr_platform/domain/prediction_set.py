"""Prediction sets: the classes that an image may have, with a stated share of images whose set contains their class.

One definition, because the coverage in a report and a bundle and the answers of a server must follow the same rule.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field, model_validator
from typing_extensions import Self

from cxr_platform.config import Fraction
from cxr_platform.domain.interval import Rate
from cxr_platform.validation import Record

COVERAGE = 0.9
"""Share of each class's images, 0 to 1, whose set is to contain their class."""

ROUNDING = 1e-9
"""Probabilities that are lower than a threshold by less than this reach it."""


def set_members(probabilities: Any, thresholds: Sequence[float | None]) -> Any:
    """Return True for each class, (…, 7), whose calibrated probability (…, 7) reaches its threshold.

    A class without a threshold is in no set.
    """
    limits = np.array([np.inf if threshold is None else threshold for threshold in thresholds])
    return np.asarray(probabilities) >= limits - ROUNDING


class ClassSets(Record):
    """The threshold of one class, from one image each of `patients`, and the coverage of its images.

    Without a threshold there were too few patients, and nothing is stated about the class.
    """

    label: str
    patients: int = Field(ge=0, description="Patients whose images the threshold was chosen on.")
    threshold: Fraction | None = Field(
        description="The class is in the set of an image with at least this probability; null: too few patients."
    )
    coverage: Rate = Field(
        description="Images of the class whose set contains it, in percent, by thresholds of other patients; each "
        "patient counts once. value is null if it was not measured."
    )


class PredictionSets(Record):
    """The rule that makes the set of an image, one entry per class, with its out-of-fold coverage and set sizes.

    It holds for images like those of the study, not for other hospitals.
    """

    coverage: float = Field(gt=0, lt=1, description="Share of each class's images to cover, 0 to 1.")
    classes: tuple[ClassSets, ...]
    mean_size: float | None = Field(ge=0, description="Mean number of classes in a set; null if not measured.")
    single: Rate = Field(description="Images with one class in their set, in percent.")
    empty: Rate = Field(description="Images with no class in their set, in percent.")

    @property
    def thresholds(self) -> list[float | None]:
        """Threshold per class, in order."""
        return [part.threshold for part in self.classes]

    @property
    def not_stated(self) -> list[str]:
        """Classes with too few patients for a threshold, which are in no set."""
        return [part.label for part in self.classes if part.threshold is None]

    def labels(self, probabilities: Any) -> list[str]:
        """Return the set of one image from its calibrated probabilities (7,), in the order of the classes."""
        members = set_members(probabilities, self.thresholds)
        return [part.label for part, member in zip(self.classes, members, strict=True) if member]

    @property
    def meaning(self) -> str:
        """What a set states and for which images, in plain words."""
        classes = "each class with a threshold" if self.not_stated else "each class"
        text = (
            f"The set aims to contain the true class for {100 * self.coverage:g} % of the images of {classes}. This "
            "was measured on other patients of the study and holds for images like the study's, not for other "
            "hospitals."
        )
        if self.not_stated:
            text += f" Nothing is stated about {', '.join(self.not_stated)}: the study has too few patients with it."
        return text

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        labels = [part.label for part in self.classes]
        if len(set(labels)) < len(labels):
            raise ValueError("each class once in classes")
        return self
