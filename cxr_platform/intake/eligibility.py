"""Whether a file may be used, by what its table, its folder or its DICOM header states and by its measured quality.

Each function returns a `Refusal`, or `None` for a file that may be used (§2.1.1 to §2.1.4). `judge_image` decides on a
decoded image for the manifest, for screening, explaining and evaluating alike.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Protocol

from cxr_platform.config import IntakeConfig, SelectionConfig
from cxr_platform.intake.candidate import Refusal
from cxr_platform.intake.quality import QualityMeasures, judge
from cxr_platform.intake.vocabulary import CLASS_OF, NO_FINDING, other_body_part, other_view, plain, view_kind

DICOM_MODALITIES = frozenset({"", "CR", "DX", "DR", "XR", "RG", "SC", "OT"})
"""Values of Modality (0008,0060) of a projection radiograph; some are from older editions of the standard."""
DICOM_PROJECTIONS = frozenset({"AP", "PA", "LL", "RL", "LLD", "RLD", "LLO", "RLO"})
"""Defined terms of View Position (0018,5101), which only projections have."""
_TABLE_MODALITY = re.compile(r"(x[- ]?ray|cr|dx)?", re.IGNORECASE)


class DecodedImage(Protocol):
    """What `judge_image` needs to know of an image; the attributes are those of `images.ChestImage`."""

    @property
    def view(self) -> str | None: ...  # noqa: D102
    @property
    def other_body_part(self) -> str | None: ...  # noqa: D102
    @property
    def for_processing(self) -> bool: ...  # noqa: D102
    @property
    def quality(self) -> QualityMeasures: ...  # noqa: D102


def judge_image(image: DecodedImage, config: IntakeConfig, stated_view: str | None = None) -> Refusal | None:
    """Refuse a decoded image for one of the reasons `candidate.UNFIT`.

    `stated_view` is that of the collection's table; if it is understood it comes before that of the file. The detail
    holds measured values and words of `vocabulary` only, so that it may be shown where the file is not to be quoted.
    """
    view = stated_view if stated_view and view_kind(stated_view) else image.view
    if refusal := judge_view(view, config.selection):
        return refusal
    if image.other_body_part:
        return _wrong_body_part(image.other_body_part)
    if image.for_processing:
        return Refusal("for-processing", "export the image of the series FOR PRESENTATION")
    return judge(image.quality, config.quality)


def judge_dicom_modality(modality: str, view: str | None, secondary_capture: bool) -> Refusal | None:
    """Refuse a DICOM object that is not a radiograph.

    A secondary capture that states a projection is a radiograph, whatever its modality.
    """
    if modality in DICOM_MODALITIES or (secondary_capture and view in DICOM_PROJECTIONS):
        return None
    return Refusal("modality", f"DICOM: Modality {modality}")


def judge_table_modality(modality: str) -> Refusal | None:
    """Refuse a modality in a table other than X-ray, CR or DX; an empty one is taken as X-ray."""
    return None if _TABLE_MODALITY.fullmatch(modality) else Refusal("modality", modality)


def judge_view(view: str | None, selection: SelectionConfig) -> Refusal | None:
    """Refuse a view other than PA or AP if only frontal views are selected; an unknown view is taken as frontal."""
    other = other_view(view) if view and selection.frontal_only else None
    return Refusal("view", f"view {other}") if other else None


def judge_body_part(text: str) -> Refusal | None:
    """Refuse an image of another part of the body than the chest; one that is not understood is taken as the chest."""
    other = other_body_part(text)
    return _wrong_body_part(other) if other else None


def _wrong_body_part(part: str) -> Refusal:
    return Refusal("body-part", f"body part {part}")


def judge_findings(
    findings: Iterable[str], classes: Mapping[str, str], selection: SelectionConfig
) -> tuple[str | None, Refusal | None]:
    """Return the one class among `findings`, and a refusal or `None`.

    `classes` maps the findings that count, in `plain` form, to classes. If none of them counts the reason is
    `finding-not-studied`, if several classes apply `several-findings`. With `single_finding_only`, other findings
    beside the one class are `further-findings` (§2.1.3).
    """
    given = [finding.strip() for finding in findings if finding.strip()]
    text = ", ".join(given)
    if not given:
        return None, Refusal("no-finding-given", "the finding is empty")
    labels = {classes[plain(finding)] for finding in given if plain(finding) in classes}
    if not labels:
        return None, Refusal("finding-not-studied", f"finding {text}")
    if len(labels) > 1:
        return None, Refusal("several-findings", f"findings {text}")
    has_others = any(plain(finding) not in classes for finding in given)
    refusal = Refusal("further-findings", f"findings {text}") if selection.single_finding_only and has_others else None
    return labels.pop(), refusal


def classes_by_name(selection: SelectionConfig) -> dict[str, str]:
    """Return the class of each synonym in `plain` form, without "no finding" unless that counts as Normal."""
    keep = selection.no_finding_is_normal
    return {name: label for name, label in CLASS_OF.items() if keep or name not in NO_FINDING}
