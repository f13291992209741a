"""The seven classes of the study, in the order of every probability vector, table and confusion matrix."""

from collections.abc import Mapping
from types import MappingProxyType

CLASSES: tuple[str, ...] = ("Covid19", "Edema", "Effusion", "Emphysema", "Fibrosis", "Pneumonia", "Normal")
"""Labels in the order of the paper's Tables 2 and 6. Emphysema is the paper's COPD (§2.1.3)."""

POSITIVE_CLASS = "Covid19"
"""The class that counts as positive in every two-class figure (§2.5)."""

UNDECIDED = "undecided"
"""Label by readers of an image of which equally many of them state different things."""

PAPER_COUNTS: Mapping[str, int] = MappingProxyType(
    {
        "Covid19": 455,
        "Edema": 293,
        "Effusion": 311,
        "Emphysema": 315,
        "Fibrosis": 280,
        "Pneumonia": 910,
        "Normal": 1341,
    }
)
"""Images a class in the paper (§2.1.1 to §2.1.3; 3,905 in all)."""


def class_index(label: str) -> int:
    """The position of `label` in `CLASSES`; raises `KeyError` for a label that is not one of the seven."""
    try:
        return CLASSES.index(label)
    except ValueError:
        raise KeyError(f"Expected one of {', '.join(CLASSES)}. Received: {label!r}.") from None
