"""One file of a collection before it is opened, and the reasons for which a file is excluded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

Role = Literal["study", "external", "contrast", "outside"]
"""A contrast image is of a source of the study, but of none of the seven classes: held out like images of the study,
and not trained on. An outside image is of none of the seven classes either, and of a source that was named for that: in
no fold, and predicted by every network as an external image is."""

REASONS: Mapping[str, str] = MappingProxyType(
    {
        # the file
        "not-an-image": "the content is not PNG, JPEG or DICOM, whatever the file name",
        "unreadable": "the file cannot be opened or read",
        "undecodable": "the content begins like an image but cannot be decoded",
        "too-large": "more bytes or pixels than the limits of the profile",
        "multi-frame": "a DICOM object with several frames; an image has one",
        "no-pixel-data": "a DICOM object without an image",
        # the collection's table or the DICOM header
        "not-listed": "the collection's table has no row for this file",
        "modality": "not a projection radiograph (a CT, for example)",
        "no-finding-given": "the table leaves the finding empty",
        "finding-not-studied": "the finding is none of the seven classes",
        "finding-studied": "the finding is one of the seven classes, in a source that is outside of them",
        "several-findings": "more than one of the seven classes applies",
        "further-findings": "further findings beside Normal, or beside the one studied (single_finding_only)",
        "unknown-folder": "the folder's name is none of the seven classes",
        # the image itself
        "view": "not a frontal view",
        "body-part": "a part of the body other than the chest",
        "for-processing": "raw values of the detector (FOR PROCESSING), not an image for display",
        "colour": "a picture in strong colours, not a radiograph",
        "low-contrast": "grey values too close together",
        "partial": "only part of the thorax, or not the shape of a frontal image",
        "not-upright": "no mediastinum between two lungs from left to right; the image may lie on its side",
        "low-resolution": "fewer pixels than an image needs",
        # the selection of the study
        "duplicate": "the same file or the same pixels as another image of the manifest",
        "conflicting-label": "the same image has another label elsewhere, or a label if it is a contrast image",
        "several-groups": "a contrast image that is linked with several groups of the study, maybe of several folds",
        "not-drawn": "not drawn when the class was capped",
        "denied": "named in the deny list",
    }
)
"""Reason codes of `excluded.parquet`, each with its explanation."""

UNFIT = (
    *("view", "body-part", "for-processing", "colour"),
    *("low-contrast", "partial", "not-upright", "low-resolution"),
)
"""Reasons of `eligibility.judge_image`: the image was decoded but may not be used. `cxr screen` and the server answer
such an image as not screenable, and `overrule.toml` can allow it."""


@dataclass(frozen=True)
class Refusal:
    """Why a file is excluded: a code of `REASONS`, and a detail for the reader."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Candidate:
    """One file of a collection, with what the collection's table or folders state about it.

    `source_path` is `SOURCE/relative/path` (POSIX), the same on every machine. `patient` is the collection's own key,
    unique within the source and hashed with a salt before it is stored; `None` if the collection has none. `view` is
    PA, AP, AP Supine, L, …; `sex` M or F; `age` in years; each is `None` if not given. `refusal` is set if the
    collection's table already excludes the image; `label` is then often `None`. `other_finding` is true if nothing but
    its finding does, which is stated and none of the seven classes. `reader_finding` is what readers state in a second
    table, and `reader_label` the class that it stands for, if any, or `UNDECIDED`.
    """

    source: str
    path: Path
    source_path: str
    label: str | None = None
    finding: str = ""
    patient: str | None = None
    view: str | None = None
    sex: str | None = None
    age: float | None = None
    role: Role = "study"
    refusal: Refusal | None = None
    other_finding: bool = False
    reader_finding: str | None = None
    reader_label: str | None = None
