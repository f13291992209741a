import io
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from PIL import Image

from cxr_platform.intake.phantoms.encode import SUFFIXES, Header, as_dicom, encode, re_encode

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
def test_pictures_come_back_as_they_were(container, kind, mode, tolerance):
    image = opened(encode(PICTURE, container, HEADER))
    assert (image.format, image.mode, image.size) == (kind, mode, (50, 60))
    values = np.asarray(image, float) / (65535 if mode == "I;16" else 255)
    assert values.reshape(60, 50, -1)[..., 0] == pytest.approx(PICTURE, abs=tolerance)


@pytest.mark.parametrize("container", SUFFIXES)
def test_the_same_picture_gives_the_same_bytes(container):
    assert encode(PICTURE, container, HEADER) == encode(PICTURE, container, HEADER)


def read(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def test_dicom_holds_twelve_bits_and_says_that_it_is_synthetic():
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


def test_a_window_is_written_only_where_asked_for_and_holds_the_values():
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
