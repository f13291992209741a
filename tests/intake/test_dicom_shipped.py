"""Every object and stream that the installed packages ship is decoded as GDCM decodes it, or refused with a reason."""

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import cv2
import jpeg_ls
import numpy as np
import pydicom.data
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

from cxr_platform.errors import ImageRefused
from cxr_platform.intake.dicom_pixels import stored_values
from tests.intake.files import dataset
from tests.intake.gdcm_values import values_of_gdcm

TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"
SHIPPED = [
    file.relative_to(TEST_FILES).as_posix()
    for file in sorted(TEST_FILES.rglob("*"))
    if file.is_file() and file.suffix in (".dcm", "") and "dicomdir" not in file.as_posix().lower()
]
LOSSY = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K}

DAMAGED = {
    "JPEG2000-embedded-sequence-delimiter.dcm": r"the compressed frame \(JPEG 2000.* states",
    "MR_truncated.dcm": "8,130 bytes of pixel data, the header asks for 8,192",
}
"""Objects that are refused, each with its reason; GDCM decodes neither."""
OF_PYDICOM_ALONE = {
    "J2K_pixelrep_mismatch.dcm": "GDCM takes the sign from a stream that contradicts the header",
    "SC_rgb_rle_16bit.dcm": "GDCM mixes the bytes of colours of more than 8 bits",
    "SC_rgb_rle_32bit.dcm": "GDCM mixes the bytes of colours of more than 8 bits",
}
"""Objects that are decoded as pydicom does, and why not as GDCM does."""


@pytest.fixture(scope="module")
def by_gdcm(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, np.ndarray]:
    """The values that GDCM reads, by file."""
    return values_of_gdcm([TEST_FILES / name for name in SHIPPED], tmp_path_factory.mktemp("gdcm"))


def _is_single_image(image: Dataset) -> bool:
    return {"PixelData", "Rows", "BitsAllocated"} <= set(image.dir()) and image.get("NumberOfFrames") in (1, None, "")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SHIPPED)
def test_an_object_of_pydicom_has_the_values_that_gdcm_and_pydicom_read(
    name: str, by_gdcm: dict[Path, np.ndarray]
) -> None:
    """Lossy values may differ by 1."""
    image = dcmread(TEST_FILES / name, force=True)
    if not _is_single_image(image) or "TransferSyntaxUID" not in image.file_meta:
        pytest.skip("no single image: test_dicom.py has the reasons for which they are refused")
    if name in DAMAGED:
        with pytest.raises(ImageRefused, match=DAMAGED[name]):
            stored_values(image)
        assert TEST_FILES / name not in by_gdcm
        return
    syntax = image.file_meta.TransferSyntaxUID
    if syntax == JPEGExtended12Bit and not find_spec("tensorflow_io"):
        with pytest.raises(ImageRefused, match=r"JPEG Extended.*use the tensorflow stack"):
            stored_values(image)
        return
    values = stored_values(image)
    readers = [by_gdcm.get(TEST_FILES / name)] if name not in OF_PYDICOM_ALONE else []
    with suppress(Exception):  # pydicom does not read 12-bit JPEG
        readers.append(pixel_array(image))
    present = [others for others in readers if others is not None]
    assert present
    for others in present:
        np.testing.assert_allclose(values, others, atol=int(syntax in LOSSY), rtol=0)


def test_gdcm_reads_most_of_the_objects_of_pydicom(by_gdcm: dict[Path, np.ndarray]) -> None:
    assert len(by_gdcm) >= 30
    assert {values.ndim for values in by_gdcm.values()} == {2, 3}


def test_a_file_on_which_gdcm_fails_does_not_hide_the_next(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.dcm"
    damaged.write_bytes((TEST_FILES / "CT_small.dcm").read_bytes()[:3000])
    good = TEST_FILES / "CT_small.dcm"
    assert list(values_of_gdcm([damaged, tmp_path / "absent.dcm", good], tmp_path)) == [good]


STREAMS = Path(jpeg_ls.__file__).parent / "tests" / "jlsimV100"
REFERENCES = {"T8C": "TEST8.PPM", "T8N": "TEST8BS2.PGM", "T16": "TEST16.PGM"}
"""Conformance images of ITU-T T.87 annex E, by the first letters of the streams that hold them."""


@pytest.mark.parametrize(
    "name", ["T16E0", "T16E3", "T8C0E0", "T8C0E3", "T8C1E0", "T8C1E3", "T8C2E0", "T8C2E3", "T8NDE0", "T8NDE3"]
)
def test_the_conformance_streams_of_jpeg_ls_have_the_values_of_their_images(name: str) -> None:
    """The last digit of a name is the largest difference of a near-lossless stream."""
    expected = cv2.imread(str(STREAMS / REFERENCES[name[:3]]), cv2.IMREAD_UNCHANGED)
    expected = np.ascontiguousarray(expected[..., ::-1]) if expected.ndim == 3 else expected
    image = _with_stream(expected, name)
    np.testing.assert_allclose(stored_values(image), expected, atol=int(name[-1]), rtol=0)


@pytest.mark.parametrize("name", ["T8SSE0", "T8SSE3"])
def test_a_jpeg_ls_stream_of_subsampled_colours_is_refused(name: str) -> None:
    with pytest.raises(ImageRefused, match=r"JPEG-LS.*not supported"):
        stored_values(_with_stream(np.zeros((256, 256, 3), np.uint8), name))


def _with_stream(values: np.ndarray, name: str) -> Dataset:
    image = dataset(values, **({"BitsStored": 12} if name.startswith("T16") else {}))
    image.file_meta.TransferSyntaxUID = JPEGLSLossless if name.endswith("0") else JPEGLSNearLossless
    image.PixelData = encapsulate([(STREAMS / f"{name}.JLS").read_bytes()])
    return image
