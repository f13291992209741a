"""Whether a file may be used, by what its table, its folder or its DICOM header states; no pixel is looked at.

Each function returns a `Refusal`, or `None` for a file that may be used (§2.1.1 to §2.1.3).
"""

import re
from collections.abc import Iterable, Mapping

from cxr_platform.config import SelectionConfig
from cxr_platform.intake.candidate import Refusal
from cxr_platform.intake.vocabulary import CLASS_OF, NO_FINDING, plain, view_kind

DICOM_MODALITIES = frozenset({"", "CR", "DX", "DR", "XR", "RG", "SC", "OT"})
"""Values of Modality (0008,0060) of a projection radiograph; some are from older editions of the standard."""
DICOM_PROJECTIONS = frozenset({"AP", "PA", "LL", "RL", "LLD", "RLD", "LLO", "RLO"})
"""Defined terms of View Position (0018,5101), which only projections have."""
_TABLE_MODALITY = re.compile(r"(x[- ]?ray|cr|dx)?", re.IGNORECASE)


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
    if not selection.frontal_only or not view or view_kind(view) != "other":
        return None
    return Refusal("view", f"view {view}")


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
