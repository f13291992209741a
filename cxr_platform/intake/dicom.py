"""Decoder of DICOM objects: the header (`dicom_header`) is checked before any library decodes the pixels."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType

from pydicom import Dataset

from cxr_platform.config import DecodingConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.dicom_grey import read_grey
from cxr_platform.intake.dicom_header import read_header
from cxr_platform.intake.dicom_pixels import ONE_SAMPLE, SECONDARY_CAPTURE
from cxr_platform.intake.dicom_source import DicomSource, source_of
from cxr_platform.intake.eligibility import DICOM_PROJECTIONS, judge_dicom_modality
from cxr_platform.intake.grey_image import GreyImage, check_pixels
from cxr_platform.intake.vocabulary import (
    VIEW_CODES,
    described_view,
    names_no_patient,
    other_body_part,
    other_view,
    parse_age,
    parse_sex,
    view_kind,
)

DESCRIBED_BY = (
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)
"""Attributes without which pixel data have no meaning (type 1 in C.7.6.3)."""
THREE_SAMPLES = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")
DESCRIPTIONS = ("AcquisitionDeviceProcessingDescription", "SeriesDescription", "ProtocolName")
"""Texts that describe one image or its series. Study Description names all views of an examination."""
FOR_PROCESSING = frozenset({"1.2.840.10008.5.1.4.1.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1.2.1"})
"""SOP classes of raw values: Digital X-Ray and Digital Mammography X-Ray Image Storage - For Processing."""
MODALITY_OF_CLASS = MappingProxyType(
    {
        **dict.fromkeys((".1.2", ".1.2.1"), "MG"),
        **dict.fromkeys((".1.3", ".1.3.1"), "IO"),
        **dict.fromkeys((".2", ".2.1", ".2.2"), "CT"),
        **dict.fromkeys((".4", ".4.1", ".4.3", ".4.4"), "MR"),
        **dict.fromkeys((".3", ".3.1", ".6", ".6.1", ".6.2"), "US"),
        **dict.fromkeys((".12.1", ".12.1.1"), "XA"),
        **dict.fromkeys((".12.2", ".12.2.1"), "RF"),
        ".20": "NM",
        **dict.fromkeys((".128", ".128.1", ".130"), "PT"),
    }
)
"""Modality by the SOP class, which follows on `STORAGE`, of objects that state none."""
STORAGE = "1.2.840.10008.5.1.4.1.1"
_ONE_AT_A_TIME = threading.Lock()


def decode_dicom(data: bytes, config: DecodingConfig, with_source: bool = False) -> GreyImage:
    """Decode a DICOM object, with or without its 128-byte preamble, that holds one projection radiograph.

    `with_source` also returns what a document about the image takes over from it.

    Raises `ImageRefused`: `no-pixel-data`, `modality`, `multi-frame`, `too-large`, with `with_source` those of
    `source_of`, or `undecodable` for every other fault.
    """
    with _refusing_faults():
        dataset = read_header(data)
        _check_header(dataset, config)
        values, colours = read_grey(dataset, config)
        return GreyImage(
            values=values,
            width=int(dataset.Columns),
            height=int(dataset.Rows),
            bit_depth=int(dataset.BitsStored),
            color_mode=str(dataset.PhotometricInterpretation),
            container="DICOM",
            colours=colours,
            view=_view(dataset),
            other_body_part=_other_body_part(dataset),
            for_processing=_is_for_processing(dataset),
            patient=_patient(dataset),
            sex=parse_sex(_text(dataset, "PatientSex")),
            age=parse_age(_text(dataset, "PatientAge")),
            source=source_of(dataset) if with_source else None,
        )


def read_source(data: bytes) -> DicomSource:
    """Return what a document about a DICOM object takes over from it; raise `ImageRefused` as `source_of`."""
    with _refusing_faults():
        return source_of(read_header(data))


@contextmanager
def _refusing_faults() -> Iterator[None]:
    """Turn every exception into `ImageRefused`, since pydicom raises anything when it converts values on access.

    Its warnings of irregular values, of which hospitals' files are full, are suppressed. Warning filters belong to the
    process, not to a thread, hence the lock.
    """
    try:
        with _ONE_AT_A_TIME, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImageRefused:
        raise
    except Exception as error:
        raise ImageRefused("undecodable", f"DICOM: {error or type(error).__name__}") from error


def _check_header(dataset: Dataset, config: DecodingConfig) -> None:
    """Raise `ImageRefused` unless the header describes one radiograph that can be decoded."""
    modality = _modality(dataset)
    if "PixelData" not in dataset:
        raise ImageRefused("no-pixel-data", f"DICOM: {modality or 'an object'} without Pixel Data")
    secondary_capture = dataset.get("SOPClassUID") == SECONDARY_CAPTURE
    refusal = judge_dicom_modality(modality, _projection(dataset), secondary_capture)
    if refusal:
        raise ImageRefused(refusal.reason, refusal.detail)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise ImageRefused("multi-frame", f"DICOM: {frames} frames")
    missing = [keyword for keyword in DESCRIBED_BY if dataset.get(keyword) in (None, "")]
    if missing:
        raise ImageRefused("undecodable", f"DICOM: the header lacks {', '.join(missing)}")
    check_pixels(int(dataset.Columns), int(dataset.Rows), config)
    photometric = dataset.PhotometricInterpretation = str(dataset.PhotometricInterpretation).strip().upper()
    samples = 1 if photometric in ONE_SAMPLE else 3 if photometric in THREE_SAMPLES else None
    allocated, stored, high = dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit
    if not (
        dataset.SamplesPerPixel == samples
        and allocated in (1, 8, 16, 32)
        and 1 <= stored <= high + 1 <= allocated
        and dataset.PixelRepresentation in (0, 1)
    ):
        raise ImageRefused(
            "undecodable",
            f"DICOM: {dataset.SamplesPerPixel} × {photometric}, {allocated} bits allocated, {stored} stored, "
            f"high bit {high}, representation {dataset.PixelRepresentation} describe no image",
        )
    check_pixels(int(dataset.Columns), int(dataset.Rows), config, samples * max(allocated // 8, 1))


def _modality(dataset: Dataset) -> str:
    stated = _text(dataset, "Modality").upper()
    by_class = MODALITY_OF_CLASS.get(_text(dataset, "SOPClassUID").removeprefix(STORAGE))
    return by_class if by_class and stated in ("", "OT") else stated


def _view(dataset: Dataset) -> str | None:
    """Return the view by the first attribute that states one: View Position, View Code Sequence, a description.

    A View Position that is not understood is returned if no other attribute states a view.
    """
    position = _projection(dataset)
    if position and view_kind(position):
        return position
    described = (described_view(_text(dataset, keyword)) for keyword in DESCRIPTIONS)
    return _view_code(dataset) or next(filter(None, described), position)


def _projection(dataset: Dataset) -> str | None:
    """Return View Position, or Patient Position if a converter has put the projection there."""
    position = _text(dataset, "PatientPosition").upper()
    return _text(dataset, "ViewPosition").upper() or (position if position in DICOM_PROJECTIONS else None)


def _view_code(dataset: Dataset) -> str | None:
    """Return the view in View Code Sequence, by its code or by the meaning of another code."""
    item = _first_item(dataset, "ViewCodeSequence")
    meaning = _text(item, "CodeMeaning")
    return VIEW_CODES.get(_text(item, "CodeValue")) or other_view(meaning) or described_view(meaning)


def _other_body_part(dataset: Dataset) -> str | None:
    examined = _text(dataset, "BodyPartExamined")
    return other_body_part(examined or _text(_first_item(dataset, "AnatomicRegionSequence"), "CodeMeaning"))


def _is_for_processing(dataset: Dataset) -> bool:
    intent = _text(dataset, "PresentationIntentType").upper()
    return intent == "FOR PROCESSING" or (not intent and _text(dataset, "SOPClassUID") in FOR_PROCESSING)


def _first_item(dataset: Dataset, keyword: str) -> Dataset:
    """Return the first item of a sequence, an empty one if there is none."""
    return dataset[keyword].value[0] if keyword in dataset else Dataset()


def _patient(dataset: Dataset) -> str | None:
    patient = _text(dataset, "PatientID")
    return None if names_no_patient(patient) else patient


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()
