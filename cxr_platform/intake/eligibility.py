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
from cxr_platform.intake.vocabulary import (
    CLASS_OF,
    NO_FINDING,
    folded,
    other_body_part,
    other_view,
    plain,
    view_kind,
)

DICOM_MODALITIES = frozenset({"", "CR", "DX", "DR", "XR", "RG", "SC", "OT"})
"""Values of Modality (0008,0060) of a projection radiograph; some are from older editions of the standard."""
DICOM_PROJECTIONS = frozenset({"AP", "PA", "LL", "RL", "LLD", "RLD", "LLO", "RLO"})
"""Defined terms of View Position (0018,5101), which only projections have."""
_OTHER_MODALITY = re.compile(
    r"\b(ct|mr|mri|us|pt|pet|nm|mg|xa|rf|spect|tc|tac|tomo\w*|rm|rmn|irm|resonan\w*|magnet\w*|ultraso\w*|sonogra\w*"
    r"|ecogra\w*|echo\w*|mammo\w*|mamo\w*|angiogr\w*|fluoros\w*|scintigr\w*|szintigr\w*|gammagra\w*|nuclear\w*"
    r"|densitometr\w*|endoscop\w*|microscop\w*)\b"
)
"""Words of a table for a modality other than a projection radiograph."""
_OTHER_DICOM_MODALITIES = frozenset(
    {
        *("ar", "asmt", "au", "bdus", "bi", "bmd", "ctprotocol", "dg", "doc", "ecg", "eps", "es", "fid", "gm", "hc"),
        *("hd", "io", "iol", "ivoct", "ivus", "ker", "ko", "len", "ls", "oam", "oct", "op", "opm", "opt", "optbsv"),
        *("optenf", "opv", "oss", "plan", "pr", "px", "reg", "resp", "rtdose", "rtimage", "rtplan", "rtrecord"),
        *("rtstruct", "rwv", "seg", "sm", "smr", "sr", "srf", "stain", "tg", "va", "xc"),
    }
)
"""Further terms of Modality (0008,0060), which as part of a longer text may be a word."""

_BESIDE_NORMAL = re.compile(r"\b(devices?|dispositivos?|pacemaker|marcapasos|cath?eter\w*|tubes?|tubos?|unchanged)\b")
"""What a table may list beside Normal, as it is no finding of the lung or the heart."""


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
    if refusal := judge_view(clearest_view(stated_view, image.view), config.selection):
        return refusal
    if image.other_body_part:
        return _wrong_body_part(image.other_body_part)
    if image.for_processing:
        return Refusal("for-processing", "export the image of the series FOR PRESENTATION")
    return judge(image.quality, config.quality)


def clearest_view(stated: str | None, of_file: str | None) -> str | None:
    """Return the view that a table states if it is understood, else that of the file, else the text of the table."""
    return stated if stated and view_kind(stated) else of_file or stated


def judge_dicom_modality(modality: str, view: str | None, secondary_capture: bool) -> Refusal | None:
    """Refuse a DICOM object that is not a radiograph.

    A secondary capture that states a projection is a radiograph, whatever its modality.
    """
    if modality in DICOM_MODALITIES or (secondary_capture and view in DICOM_PROJECTIONS):
        return None
    return Refusal("modality", f"DICOM: Modality {modality}")


def judge_table_modality(modality: str) -> Refusal | None:
    """Refuse a modality in a table that is known to be no projection radiograph.

    Any other text (`RX`, `Radiografía`, `['CR', 'DX']`), and none, is taken as a radiograph.
    """
    words = re.findall(r"[^\W_]+", folded(modality))
    other = _OTHER_MODALITY.search(" ".join(words)) or (words and _OTHER_DICOM_MODALITIES.issuperset(words))
    return Refusal("modality", modality) if other else None


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
    `finding-not-studied`, if several classes apply `several-findings`. Other findings beside the one class are
    `further-findings` (§2.1.3) with `single_finding_only`, and always beside Normal, unless they are devices.
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
    others = [plain(finding) for finding in given if plain(finding) not in classes]
    label, refusal = labels.pop(), Refusal("further-findings", f"findings {text}")
    if label == "Normal" and any(name not in NO_FINDING and not _BESIDE_NORMAL.search(name) for name in others):
        return None, refusal
    return label, refusal if selection.single_finding_only and others else None


def classes_by_name(selection: SelectionConfig) -> dict[str, str]:
    """Return the class of each synonym in `plain` form, without "no finding" unless that counts as Normal."""
    keep = selection.no_finding_is_normal
    return {name: label for name, label in CLASS_OF.items() if keep or name not in NO_FINDING}
