"""DICOM objects to grey: the header is read and judged by pydicom before any library decodes the pixels."""

import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cxr_platform.config import DecodingConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.dicom_grey import to_grey
from cxr_platform.intake.dicom_pixels import ONE_SAMPLE, SECONDARY_CAPTURE, stored_values
from cxr_platform.intake.grey import GreyImage, check_pixels
from cxr_platform.intake.layouts.vocabulary import parse_age, parse_sex

if TYPE_CHECKING:
    from pydicom import Dataset

RADIOGRAPHS = frozenset({"", "CR", "DX", "DR", "XR", "RG", "SC", "OT"})
"""Values of Modality (0008,0060) that a projection radiograph carries; some are of older editions of the standard."""
PROJECTIONS = frozenset({"AP", "PA", "LL", "RL", "LLD", "RLD", "LLO", "RLO"})
"""Defined terms of View Position (0018,5101), which only projections have."""
DEFLATED = b"1.2.840.10008.1.2.1.99"
THREE_SAMPLES = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")
NOBODY = re.compile(r"|anon[^0-9]*|unknown|none|0+", re.IGNORECASE)
"""Values of Patient ID that stand for no patient; `ANON0042` is one patient's pseudonym."""
_ONE_AT_A_TIME = threading.Lock()


def decode_dicom(data: bytes, config: DecodingConfig) -> GreyImage:
    """Decode a DICOM object, with or without its 128-byte preamble, that holds one projection radiograph.

    Raises `ImageRefused`: `no-pixel-data`, `modality`, `multi-frame`, `too-large`, or `undecodable` for every other
    fault. A secondary capture that states a projection is taken for a radiograph, whatever modality it claims.
    """
    try:
        with _quietly():
            dataset = _read(data)
            _check_header(dataset, config)
            values = to_grey(stored_values(dataset), dataset, config)
            return GreyImage(
                values=values,
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
    except Exception as error:  # pydicom converts values when they are asked for, and raises anything then
        raise ImageRefused("undecodable", f"DICOM: {error or type(error).__name__}") from error


@contextmanager
def _quietly() -> Iterator[None]:
    """pydicom warns of every irregular value, and hospitals' files are full of them.

    Filters of warnings belong to the process and not to a thread, hence the lock.
    """
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _read(data: bytes) -> "Dataset":
    from pydicom import dcmread
    from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if DEFLATED in data:
        # pydicom would inflate the whole object, of any size, before its header can be judged.
        raise ImageRefused("undecodable", "DICOM: the deflated transfer syntax is not read")
    dataset = dcmread(io.BytesIO(data), force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = UID(ImplicitVRLittleEndian if implicit else explicit)
    return dataset


def _check_header(dataset: "Dataset", config: DecodingConfig) -> None:
    if "PixelData" not in dataset:
        raise ImageRefused("no-pixel-data", f"DICOM: {_text(dataset, 'Modality') or 'an object'} without Pixel Data")
    _check_modality(dataset)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise ImageRefused("multi-frame", f"DICOM: {frames} frames")
    check_pixels(int(dataset.Columns), int(dataset.Rows), config)
    _check_samples(dataset)


def _check_modality(dataset: "Dataset") -> None:
    modality = _text(dataset, "Modality").upper()
    captured = dataset.get("SOPClassUID") == SECONDARY_CAPTURE and _view(dataset) in PROJECTIONS
    if modality not in RADIOGRAPHS and not captured:
        raise ImageRefused("modality", f"DICOM: Modality {modality}")


def _check_samples(dataset: "Dataset") -> None:
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


def _view(dataset: "Dataset") -> str | None:
    """View Position; or Patient Position where a converter has put the projection there."""
    position = _text(dataset, "PatientPosition").upper()
    return _text(dataset, "ViewPosition").upper() or (position if position in PROJECTIONS else None)


def _patient(dataset: "Dataset") -> str | None:
    patient = _text(dataset, "PatientID")
    return None if NOBODY.fullmatch(patient) else patient


def _text(dataset: "Dataset", keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()
