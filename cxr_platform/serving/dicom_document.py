"""What both DICOM documents of an answer have in common: UIDs, model, patient and study, and their form as a file.

They belong to the patient and study of the image, form new series, and refer to the image. Both are marked as research
(Content Qualification) and carry the notice in the description of their series. Their UIDs are derived from image and
model, so that a repeated command makes the same objects.
"""

import io
import uuid
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

from pydicom import Dataset

from cxr_platform.intake.dicom_source import DicomSource
from cxr_platform.serving.schema import ScreenAnswer

MANUFACTURER = "cxr-platform"
SERIES_DESCRIPTION = "CXR screening: for research, not for diagnosis"
SERIES_NUMBERS: Mapping[str, int] = MappingProxyType({"report": 9801, "heatmap": 9802})
"""By the kind of document; high, so that they follow the images. Series are identified by their UIDs."""

RELEASE = version("cxr-platform")


def document_attributes(answer: ScreenAnswer, source: DicomSource, kind: str) -> dict[str, Any]:
    """Return what a document of the `kind` report or heatmap states about itself and the model, for highdicom."""
    return {
        "series_number": SERIES_NUMBERS[kind],
        "series_instance_uid": derived_uid(answer, source.sop_instance_uid, kind, "series"),
        "sop_instance_uid": derived_uid(answer, source.sop_instance_uid, kind, _content(answer, source)),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": model_name(answer),
        "software_versions": answer.model.version,
        "series_description": SERIES_DESCRIPTION,
        "content_qualification": "RESEARCH",
        "specific_character_set": "ISO_IR 192",
    }


def derived_uid(answer: ScreenAnswer, *parts: str) -> str:
    """Return a UID (PS3.5, B.2) that is the same for the same parts, model, operating point and release.

    The version alone does not identify a model, because all registries count v1, v2, …
    """
    model = f"{RELEASE} {answer.model.model_dump_json()}{answer.operating_point.model_dump_json()}"
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, ' '.join((MANUFACTURER, model, *parts))).int}"


def model_name(answer: ScreenAnswer) -> str:
    """Return version, strategy and kind of images of a model, in words."""
    synthetic = ", trained on drawn images" if answer.model.synthetic else ""
    return f"Model {answer.model.version}, {answer.model.strategy}{synthetic}"


def copy_attributes(source: DicomSource, document: Dataset, keywords: Sequence[str]) -> None:
    """Copy those of the attributes `keywords` to a document that its image has."""
    for keyword in keywords:
        if keyword in source.attributes:
            setattr(document, keyword, source.attributes[keyword])


def encode_document(document: Dataset) -> bytes:
    """Return the bytes of a file as PS3.10 defines it."""
    buffer = io.BytesIO()
    document.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _content(answer: ScreenAnswer, source: DicomSource) -> str:
    """Return what the documents state besides date and pixels: an object of other content has another UID."""
    stated = answer.model_dump_json(exclude={"request_id", "timings_ms", "explanation"})
    missing = None if answer.explanation is None else answer.explanation.missing
    return f"{stated} {missing} {source.model_dump_json()}"
