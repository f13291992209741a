"""Files that intake must refuse, each plainly so: they stand for what public collections hold beside images."""

import hashlib

import numpy as np
from PIL import Image

from cxr_platform.intake.phantoms.annotation import burn_mark
from cxr_platform.intake.phantoms.encode import Header, as_dicom, encode
from cxr_platform.intake.phantoms.image import draw_image, image_stream
from cxr_platform.intake.phantoms.lateral import draw_lateral
from cxr_platform.intake.phantoms.plan import PlannedFlaw
from cxr_platform.intake.phantoms.plane import Field

Row = dict[str, str]

STRIP_FROM = 360  # pixels of height; a third of it is still no small image, only a partial one


def draw_flaw(planned: PlannedFlaw, size: int) -> tuple[bytes, Row | None]:
    """The file, and its row in images.csv: `None` for the image that the table does not list."""
    key = planned.key
    if planned.flaw == "lateral":
        picture, patient = draw_lateral(image_stream(key), size)
        view = "LATERAL"
    else:
        drawing = draw_image(key, max(size, STRIP_FROM) if planned.flaw == "partial" else size)
        picture, patient, view = drawing.picture, drawing.patient, drawing.position.view
    header = Header(planned.patient_id, patient.sex, patient.age, view, planned.name)
    row = {
        "filename": planned.name,
        "patient_id": planned.patient_id,
        "label": key.label,
        "view": view,
        "sex": patient.sex,
        "age": str(patient.age),
    }
    return _spoil(planned, picture, header), None if planned.flaw == "unlisted" else row


def _spoil(planned: PlannedFlaw, picture: Field, header: Header) -> bytes:
    rng = image_stream(planned.key)
    if planned.flaw == "low-contrast":
        return encode(rng.uniform(0.35, 0.6) + 0.06 * picture, "png", header)
    if planned.flaw == "partial":
        return encode(_strip(picture, rng), "png", header)
    if planned.flaw == "text":
        return _large_file_pointer(planned.name)
    if planned.flaw == "multi-frame":
        return as_dicom(np.stack([picture, 0.95 * picture, 0.9 * picture]), header)
    whole = encode(picture, "png", header)
    return whole[: len(whole) * 2 // 5] if planned.flaw == "truncated" else whole


def _strip(picture: Field, rng: np.random.Generator) -> Field:
    """A third of the image's height, marked anew because the mark may have been cut off."""
    third = round(picture.shape[0] * 0.33)
    canvas = Image.fromarray(255 * (picture[:third] if rng.random() < 0.5 else picture[-third:]))
    burn_mark(canvas, rng)
    return np.asarray(canvas, np.float32) / 255


def _large_file_pointer(name: str) -> bytes:
    """What Git leaves in place of a large file that was not fetched."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize 131072\n".encode()
