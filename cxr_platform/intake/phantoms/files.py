"""The bytes of each planned file, and its row in images.csv: PNG, JPEG and DICOM, the same bytes each time."""

import hashlib
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from cxr_platform.intake.layouts.csv_rows import MetadataRow
from cxr_platform.intake.layouts.phantoms import COLUMNS
from cxr_platform.intake.phantoms.anatomy import Patient
from cxr_platform.intake.phantoms.image import draw_image, draw_lateral, image_stream
from cxr_platform.intake.phantoms.plan import Container, PlannedFlaw, PlannedImage
from cxr_platform.intake.phantoms.projection import Field
from cxr_platform.intake.phantoms.rendering import burn_mark

STRIP_FROM = 360  # pixels of height; a third of it is still not a small image, only a partial one
STORED_BITS = 12
UID_PREFIX = "1.2.826.0.1.3680043.8.498."  # pydicom's own root, free for everybody


@dataclass(frozen=True)
class Header:
    """Header of a DICOM file. `entropy` fixes its UIDs; `window` adds WindowCenter and WindowWidth."""

    patient_id: str
    sex: str
    age: int
    view: str
    entropy: str
    window: bool = False


def draw_file(planned: PlannedImage, size: int) -> tuple[bytes, MetadataRow]:
    """Return the bytes of an image, `size` pixels high, and its row."""
    source = planned.original or planned
    drawing = draw_image(source.key, size)
    patient, view = drawing.patient, drawing.position.view
    if planned.copy == "re-encoded":
        content = re_encode(drawing.picture)
    else:
        header = Header(source.patient_id, patient.sex, patient.age, view, source.name, source.window)
        content = encode(drawing.picture, planned.container, header)
    return content, _row(planned, patient, view)


def draw_flaw(planned: PlannedFlaw, size: int) -> tuple[bytes, MetadataRow | None]:
    """Return the bytes of a flawed file and its row, `None` for the image that the table does not list."""
    key = planned.key
    view: str
    if planned.flaw == "lateral":
        picture, patient = draw_lateral(image_stream(key), size)
        view = "LATERAL"
    else:
        drawing = draw_image(key, max(size, STRIP_FROM) if planned.flaw == "partial" else size)
        picture, patient, view = drawing.picture, drawing.patient, drawing.position.view
    header = Header(planned.patient_id, patient.sex, patient.age, view, planned.name)
    return _spoil(planned, picture, header), None if planned.flaw == "unlisted" else _row(planned, patient, view)


def _row(planned: PlannedImage | PlannedFlaw, patient: Patient, view: str) -> MetadataRow:
    values = (planned.name, planned.patient_id, planned.key.label, view, patient.sex, str(patient.age))
    return dict(zip(COLUMNS, values, strict=True))


def _spoil(planned: PlannedFlaw, picture: Field, header: Header) -> bytes:
    rng = image_stream(planned.key)
    if planned.flaw == "low-contrast":
        return encode(rng.uniform(0.35, 0.6) + 0.06 * picture, "png", header)
    if planned.flaw == "partial":
        return encode(_strip(picture, rng), "png", header)
    if planned.flaw == "text":
        # what Git leaves in place of a large file that was not fetched
        digest = hashlib.sha256(planned.name.encode()).hexdigest()
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize 131072\n".encode()
    if planned.flaw == "multi-frame":
        return as_dicom(np.stack([picture, 0.95 * picture, 0.9 * picture]), header)
    whole = encode(picture, "png", header)
    return whole[: len(whole) * 2 // 5] if planned.flaw == "truncated" else whole


def _strip(picture: Field, rng: np.random.Generator) -> Field:
    """Return a third of the image's height, with a new mark because the first one may have been cut off."""
    third = round(picture.shape[0] * 0.33)
    canvas = Image.fromarray(255 * (picture[:third] if rng.random() < 0.5 else picture[-third:]))
    burn_mark(canvas, rng)
    return np.asarray(canvas, np.float32) / 255


def encode(picture: Field, container: Container, header: Header) -> bytes:
    """Encode a picture (height, width) from 0 to 1."""
    if container in ("dicom", "dicom-inverted"):
        return as_dicom(picture[None], header, inverted=container == "dicom-inverted")
    if container == "png16":
        return _save(Image.fromarray(_levels(picture, 65535).astype(np.uint16)), "PNG")
    image = Image.fromarray(_levels(picture, 255).astype(np.uint8))
    if container == "jpeg":
        return _save(image, "JPEG", quality=92)
    return _save(image.convert("RGB") if container == "png-rgb" else image, "PNG")


def re_encode(picture: Field) -> bytes:
    """Encode a copy as it occurs in public collections: a JPEG of nine tenths of the size."""
    image = Image.fromarray(_levels(picture, 255).astype(np.uint8))
    smaller = (round(0.9 * image.width), round(0.9 * image.height))
    return _save(image.resize(smaller, Image.Resampling.LANCZOS), "JPEG", quality=85)


def as_dicom(frames: Field, header: Header, inverted: bool = False) -> bytes:
    """Encode pictures (frames, height, width) from 0 to 1 as an explicit little-endian DX object, 12 bits in 16.

    `inverted` stores MONOCHROME1, in which the highest value is black.
    """
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
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, STORED_BITS, STORED_BITS - 1
    image.PixelRepresentation = 0
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
    levels: Field = np.rint(np.clip(picture, 0, 1) * top)
    return levels


def _save(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
