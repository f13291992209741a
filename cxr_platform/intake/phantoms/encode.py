"""Pictures as the bytes of PNG, JPEG and DICOM files, the same bytes each time."""

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from cxr_platform.intake.phantoms.plane import Field

Container = Literal["png", "png16", "png-rgb", "jpeg", "dicom", "dicom-inverted"]
SUFFIXES: dict[Container, str] = {
    "png": ".png", "png16": ".png", "png-rgb": ".png", "jpeg": ".jpg", "dicom": ".dcm", "dicom-inverted": ".dcm",
}  # fmt: skip
STORED_BITS = 12
UID_PREFIX = "1.2.826.0.1.3680043.8.498."  # pydicom's own root, under which anybody may generate


@dataclass(frozen=True)
class Header:
    """What a DICOM file says of its image. `entropy` fixes its UIDs; `window` asks for WindowCenter and WindowWidth."""

    patient_id: str
    sex: str
    age: int
    view: str
    entropy: str
    window: bool = False


def encode(picture: Field, container: Container, header: Header) -> bytes:
    """The file of a picture (height, width) from 0 to 1."""
    if container in ("dicom", "dicom-inverted"):
        return as_dicom(picture[None], header, inverted=container == "dicom-inverted")
    if container == "png16":
        return _save(Image.fromarray(_levels(picture, 65535).astype(np.uint16)), "PNG")
    image = Image.fromarray(_levels(picture, 255).astype(np.uint8))
    if container == "jpeg":
        return _save(image, "JPEG", quality=92)
    return _save(image.convert("RGB") if container == "png-rgb" else image, "PNG")


def re_encode(picture: Field) -> bytes:
    """A JPEG of the same image at nine tenths of its size, as somebody who copied it might have saved it."""
    image = Image.fromarray(_levels(picture, 255).astype(np.uint8))
    smaller = (round(0.9 * image.width), round(0.9 * image.height))
    return _save(image.resize(smaller, Image.Resampling.LANCZOS), "JPEG", quality=85)


def as_dicom(frames: Field, header: Header, inverted: bool = False) -> bytes:
    """An explicit little-endian DX object of pictures (frames, height, width) from 0 to 1, 12 bits in 16.

    `inverted` stores MONOCHROME1, in which the highest value is black.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

    top = 2**STORED_BITS - 1
    stored = _levels(0.03 + 0.90 * frames, top).astype("<u2")
    stored = top - stored if inverted else stored
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(UID_PREFIX, [header.entropy, "instance"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    image.StudyInstanceUID = generate_uid(UID_PREFIX, [header.entropy, "study"])
    image.SeriesInstanceUID = generate_uid(UID_PREFIX, [header.entropy, "series"])
    image.PatientID, image.PatientName = header.patient_id, f"Synthetic^{header.patient_id}"
    image.PatientSex, image.PatientAge = header.sex, f"{header.age:03d}Y"
    image.Modality, image.BodyPartExamined, image.ViewPosition = "DX", "CHEST", header.view
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.ImageComments = "SYNTHETIC: a drawn phantom, no patient"
    image.BurnedInAnnotation = "YES"
    image.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    image.SamplesPerPixel, image.Rows, image.Columns = 1, frames.shape[1], frames.shape[2]
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = (
        16,
        STORED_BITS,
        STORED_BITS - 1,
        0,
    )
    if len(frames) > 1:
        image.NumberOfFrames = len(frames)
    if header.window:
        low, high = np.percentile(stored, [0.5, 99.5])
        image.WindowCenter, image.WindowWidth = round((low + high) / 2), max(2, round(high - low))
    image.PixelData = stored.tobytes()
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _levels(picture: Field, top: int) -> Field:
    return np.rint(np.clip(picture, 0, 1) * top)


def _save(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
