"""What a document about a DICOM image takes over from it: the UIDs that it refers to, the patient and the study.

Values are read as text and checked by the rules of their value representation, so that they can be written again. All
of them are personal data: nothing of this is stored or logged, and only read for a document.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator
from pydicom import Dataset, config
from pydicom.datadict import dictionary_VR
from pydicom.multival import MultiValue
from pydicom.uid import (
    RE_VALID_UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)
from pydicom.valuerep import validate_value

from cxr_platform.errors import ImageRefused
from cxr_platform.validation import Record

INCOMPLETE = "incomplete-dicom"
"""Reason of a refusal: a document could not refer to the image, or would name another patient."""

IMAGE_CLASSES = frozenset(
    {
        ComputedRadiographyImageStorage,
        DigitalXRayImageStorageForPresentation,
        DigitalXRayImageStorageForProcessing,
        SecondaryCaptureImageStorage,
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        MultiFrameTrueColorSecondaryCaptureImageStorage,
    }
)
"""SOP classes of radiographs; a document may refer to no other."""

REFERENCES = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
COPIED = (
    *("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("StudyID", "StudyDate", "StudyTime", "StudyDescription", "AccessionNumber", "ReferringPhysicianName"),
)
"""Attributes of the patient and the study, none of which must have a value (types 2 and 3)."""

COPIED_TO_PICTURES = ("PatientOrientation", "BurnedInAnnotation")
IDENTIFYING = ("PatientID", "IssuerOfPatientID", "AccessionNumber")
"""An irregular value of another attribute is left empty; one of these would assign the document to somebody else."""

LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)
FORMATS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"DA": ("%Y%m%d",), "TM": ("%H%M%S.%f", "%H%M%S", "%H%M", "%H")}
)
MAX_CHARACTERS, MAX_UID = 1024, 64


def check_uid(value: str) -> str:
    """Return a UID; raise `ValueError` for another text."""
    if len(value) > MAX_UID or not re.fullmatch(RE_VALID_UID, value):
        raise ValueError("a UID")
    return value


def _check_image_class(value: str) -> str:
    if value not in IMAGE_CLASSES:
        raise ValueError("the SOP class of a radiograph")
    return value


Uid = Annotated[str, AfterValidator(check_uid)]


class DicomSource(Record):
    """The image that a document is about. `attributes` has values by keyword, of those in `COPIED` that have one."""

    sop_class_uid: Annotated[str, AfterValidator(_check_image_class)]
    sop_instance_uid: Uid
    study_instance_uid: Uid
    series_instance_uid: Uid
    attributes: dict[str, Annotated[str, Field(max_length=MAX_CHARACTERS)]]
    lossy: bool = Field(description="The image was compressed with loss, which documents derived from it must state.")

    @field_validator("attributes")
    @classmethod
    def _check_attributes(cls, attributes: dict[str, str]) -> dict[str, str]:
        for keyword, value in attributes.items():
            if keyword not in (*COPIED, *COPIED_TO_PICTURES) or not is_regular(keyword, value):
                raise ValueError(f"a regular value of {keyword[:20]}")
        return attributes


def source_of(dataset: Dataset) -> DicomSource:
    """Return what a document about a parsed DICOM object takes over from it.

    Raises `ImageRefused` (incomplete-dicom) without the UIDs of the image, its series and study or with an identifier
    of the patient that cannot be written again, and what pydicom raises when it converts a value.
    """
    references = {keyword: _text(dataset, keyword) for keyword in REFERENCES}
    attributes = {keyword: _text(dataset, keyword) for keyword in (*COPIED, *COPIED_TO_PICTURES)}
    wrong = [keyword for keyword, value in references.items() if not value or not is_regular(keyword, value)]
    wrong += ["SOPClassUID"] if references["SOPClassUID"] not in IMAGE_CLASSES and "SOPClassUID" not in wrong else []
    wrong += [keyword for keyword in IDENTIFYING if not is_regular(keyword, attributes[keyword])]
    if wrong:
        raise ImageRefused(INCOMPLETE, f"DICOM: no usable {', '.join(wrong)}")
    return DicomSource(
        sop_class_uid=references["SOPClassUID"],
        sop_instance_uid=references["SOPInstanceUID"],
        study_instance_uid=references["StudyInstanceUID"],
        series_instance_uid=references["SeriesInstanceUID"],
        attributes={key: value for key, value in attributes.items() if value and is_regular(key, value)},
        lossy=_is_lossy(dataset),
    )


def is_regular(keyword: str, value: str) -> bool:
    """Return True if `value`, which may be empty, can be written as the value of an attribute."""
    vr = dictionary_VR(keyword)
    values = value.split("\\") if keyword == "PatientOrientation" else [value]
    if len(values) not in (1, 2) or any("\\" in part or not part.isprintable() for part in values):
        return False
    try:
        for part in values:
            validate_value(vr, part, config.RAISE)
        if value and vr == "UI":
            check_uid(value)
        if value and vr in FORMATS:
            _check_time(value, FORMATS[vr])
    except ValueError:
        return False
    return len(value) <= MAX_CHARACTERS and (keyword != "PatientSex" or value in ("", "M", "F", "O"))


def _check_time(value: str, formats: tuple[str, ...]) -> None:
    for form in formats:
        try:
            datetime.strptime(value, form)  # DICOM's dates and times of a study have no zone
        except ValueError:
            continue
        return
    raise ValueError("a date or time")


def _text(dataset: Dataset, keyword: str) -> str:
    """Return the value of an attribute as text, with backslashes between several; empty if there is none."""
    value: Any = dataset.get(keyword)
    values = value if isinstance(value, MultiValue) else [] if value is None else [value]
    text = "\\".join(str(part).strip() for part in values)
    return text.encode("utf-8", "replace").decode()


def _is_lossy(dataset: Dataset) -> bool:
    return _text(dataset, "LossyImageCompression") == "01" or dataset.file_meta.TransferSyntaxUID in LOSSY
