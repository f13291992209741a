"""Decoder of DICOM objects: pydicom reads the header, which is checked before any library decodes the pixels."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from pydicom import Dataset, dcmread
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from cxr_platform.config import DecodingConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.dicom_pixels import ONE_SAMPLE, SECONDARY_CAPTURE, read_grey
from cxr_platform.intake.eligibility import DICOM_PROJECTIONS, judge_dicom_modality
from cxr_platform.intake.grey_image import GreyImage, check_pixels
from cxr_platform.intake.vocabulary import names_no_patient, parse_age, parse_sex

DEFLATED = b"1.2.840.10008.1.2.1.99"
THREE_SAMPLES = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")
_ONE_AT_A_TIME = threading.Lock()


def decode_dicom(data: bytes, config: DecodingConfig) -> GreyImage:
    """Decode a DICOM object, with or without its 128-byte preamble, that holds one projection radiograph.

    Raises `ImageRefused`: `no-pixel-data`, `modality`, `multi-frame`, `too-large`, or `undecodable` for every other
    fault.
    """
    try:
        with _without_warnings():
            dataset = _read(data)
            _check_header(dataset, config)
            return GreyImage(
                values=read_grey(dataset, config),
                bit_depth=int(dataset.BitsStored),
                color_mode=str(dataset.PhotometricInterpretation),
                container="DICOM",
                view=_view(dataset),
                patient=_patient(dataset),
                sex=parse_sex(_text(dataset, "PatientSex")),
                age=parse_age(_text(dataset, "PatientAge")),
            )
    except ImageRefused:
        raise
    except Exception as error:  # pydicom converts values on access, and then raises anything
        raise ImageRefused("undecodable", f"DICOM: {error or type(error).__name__}") from error


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Suppress pydicom's warnings of irregular values, of which hospitals' files are full.

    Warning filters belong to the process, not to a thread, hence the lock.
    """
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _read(data: bytes) -> Dataset:
    if DEFLATED in data:
        # pydicom would inflate the whole object, of any size, before its header can be checked.
        raise ImageRefused("undecodable", "DICOM: the deflated transfer syntax is not supported")
    dataset = dcmread(io.BytesIO(data), force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = UID(ImplicitVRLittleEndian if implicit else explicit)
    return dataset


def _check_header(dataset: Dataset, config: DecodingConfig) -> None:
    """Raise `ImageRefused` unless the header describes one radiograph that can be decoded."""
    modality = _text(dataset, "Modality")
    if "PixelData" not in dataset:
        raise ImageRefused("no-pixel-data", f"DICOM: {modality or 'an object'} without Pixel Data")
    secondary_capture = dataset.get("SOPClassUID") == SECONDARY_CAPTURE
    refusal = judge_dicom_modality(modality.upper(), _view(dataset), secondary_capture)
    if refusal:
        raise ImageRefused(refusal.reason, refusal.detail)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise ImageRefused("multi-frame", f"DICOM: {frames} frames")
    check_pixels(int(dataset.Columns), int(dataset.Rows), config)
    photometric = dataset.PhotometricInterpretation
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


def _view(dataset: Dataset) -> str | None:
    """Return View Position, or Patient Position if a converter has put the projection there."""
    position = _text(dataset, "PatientPosition").upper()
    return _text(dataset, "ViewPosition").upper() or (position if position in DICOM_PROJECTIONS else None)


def _patient(dataset: Dataset) -> str | None:
    patient = _text(dataset, "PatientID")
    return None if names_no_patient(patient) else patient


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()
