import io
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from PIL import Image

from cxr_platform.config import IntakeConfig, SelectionConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.images import read_image
from cxr_platform.intake.phantoms.files import Header, as_dicom, draw_flaw, encode, re_encode
from cxr_platform.intake.phantoms.image import ImageKey, draw_image
from cxr_platform.intake.phantoms.plan import FLAWS, SUFFIXES, PlannedFlaw, plan_flaws
from cxr_platform.intake.quality import judge
from cxr_platform.intake.sources import find_candidates
from cxr_platform.labels import CLASSES

HEADER = Header("PH0000000001", "F", 47, "PA", "PH0000000001_0.dcm")
PICTURE = np.linspace(0, 1, 60 * 50, dtype=np.float32).reshape(60, 50)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(
    ("container", "kind", "mode", "tolerance"),
    [
        ("png", "PNG", "L", 0.003),
        ("png16", "PNG", "I;16", 1e-4),
        ("png-rgb", "PNG", "RGB", 0.003),
        ("jpeg", "JPEG", "L", 0.05),
    ],
)
def test_encoded_pictures_decode_to_the_same_values(container, kind, mode, tolerance):
    image = opened(encode(PICTURE, container, HEADER))
    assert (image.format, image.mode, image.size) == (kind, mode, (50, 60))
    values = np.asarray(image, float) / (65535 if mode == "I;16" else 255)
    assert values.reshape(60, 50, -1)[..., 0] == pytest.approx(PICTURE, abs=tolerance)


@pytest.mark.parametrize("container", SUFFIXES)
def test_the_same_picture_gives_the_same_bytes(container):
    assert encode(PICTURE, container, HEADER) == encode(PICTURE, container, HEADER)


def read(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def test_dicom_has_twelve_bits_and_is_marked_as_synthetic():
    image = read(encode(PICTURE, "dicom", HEADER))
    assert (image.Modality, image.BitsStored, image.BitsAllocated) == ("DX", 12, 16)
    assert (image.PatientID, image.PatientSex, image.PatientAge, image.ViewPosition) == (
        "PH0000000001",
        "F",
        "047Y",
        "PA",
    )
    assert "SYNTHETIC" in image.ImageComments
    assert image.pixel_array.max() <= 4095
    assert image.pixel_array.shape == (60, 50)
    assert np.corrcoef(image.pixel_array.ravel(), PICTURE.ravel())[0, 1] > 0.999


def test_inverted_dicom_is_monochrome1_with_high_values_for_black():
    plain, inverted = (read(encode(PICTURE, container, HEADER)) for container in ("dicom", "dicom-inverted"))
    assert inverted.PhotometricInterpretation == "MONOCHROME1"
    assert (inverted.pixel_array == 4095 - plain.pixel_array).all()


def test_a_window_is_written_on_request_and_contains_the_values():
    assert "WindowCenter" not in read(encode(PICTURE, "dicom", HEADER))
    image = read(encode(PICTURE, "dicom", replace(HEADER, window=True)))
    low, high = np.percentile(image.pixel_array, [1, 99])
    assert image.WindowCenter - image.WindowWidth / 2 <= low < high <= image.WindowCenter + image.WindowWidth / 2


def test_uids_differ_between_images_and_are_valid():
    one, other = (read(encode(PICTURE, "dicom", replace(HEADER, entropy=e))) for e in ("a", "b"))
    assert one.SOPInstanceUID != other.SOPInstanceUID
    assert one.SOPInstanceUID.is_valid
    assert one.StudyInstanceUID.is_valid


def test_several_frames_make_a_multi_frame_object():
    image = read(as_dicom(np.stack([PICTURE, PICTURE]), HEADER))
    assert image.NumberOfFrames == 2
    assert image.pixel_array.shape == (2, 60, 50)


def test_a_re_encoded_copy_is_a_smaller_jpeg_of_the_same_image():
    image = opened(re_encode(PICTURE))
    assert (image.format, image.size) == ("JPEG", (45, 54))
    back = np.asarray(image.resize((50, 60)), float) / 255
    assert back == pytest.approx(PICTURE, abs=0.06)


CONFIG = IntakeConfig()
SIZE = 128


def flaws(kind: str) -> list[PlannedFlaw]:
    return [planned for planned in plan_flaws(200, 6) if planned.flaw == kind]


def refusal_of(data: bytes) -> str | None:
    try:
        image = read_image(data, CONFIG)
    except ImageRefused as refused:
        return refused.reason
    refusal = judge(image.quality, CONFIG.quality)
    return refusal.reason if refusal else None


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("low-contrast", "low-contrast"),
        ("partial", "partial"),
        ("text", "not-an-image"),
        ("truncated", "undecodable"),
        ("multi-frame", "multi-frame"),
    ],
)
def test_intake_refuses_each_flaw_for_its_reason(kind: str, reason: str):
    for planned in flaws(kind)[:5]:
        data, row = draw_flaw(planned, SIZE)
        assert refusal_of(data) == reason
        assert row is not None
        assert row["label"] == planned.key.label


def test_a_lateral_image_is_listed_as_lateral():
    _, row = draw_flaw(flaws("lateral")[0], SIZE)
    assert row is not None
    assert row["view"] == "LATERAL"


def test_an_unlisted_image_is_a_good_image_without_a_row():
    data, row = draw_flaw(flaws("unlisted")[0], SIZE)
    assert row is None
    assert refusal_of(data) is None


@pytest.mark.parametrize("label", CLASSES)
def test_good_images_pass_the_quality_limits_with_a_margin(label: str):
    for patient in range(6):
        drawing = draw_image(ImageKey(8, label, patient, 0), SIZE)
        header = Header("PH", drawing.patient.sex, drawing.patient.age, "PA", "x")
        quality = read_image(encode(drawing.picture, "png", header), CONFIG).quality
        assert quality.contrast > 2 * CONFIG.quality.min_contrast
        assert quality.std > 2 * CONFIG.quality.min_std
        assert quality.flat_fraction < 0.7 * CONFIG.quality.max_flat_fraction
        assert quality.uprightness > CONFIG.quality.min_uprightness + 0.2


def test_the_layout_of_phantoms_lists_every_file_and_refuses_by_the_table(small_collection):
    inventory = find_candidates(small_collection, SelectionConfig())
    reasons = [c.refusal.reason for c in inventory.candidates if c.refusal]
    assert sorted(reasons) == ["not-listed", "view"]
    assert len(inventory.candidates) == 4 * 7 + len(FLAWS)
    assert inventory.synthetic_sources == {"phantoms"}
    labels = [c.label for c in inventory.candidates if c.refusal is None]
    assert np.unique(labels).tolist() == sorted(CLASSES)
