"""The stored values of a DICOM image: tensorflow-io first, pydicom's own decoders where that fails.

tensorflow-io (DCMTK) renders: it applies the modality transform, inverts MONOCHROME1, burns overlays in, stretches
signed values, and reads past the end of pixel data that are too short. None of that is wanted here, so it is given a
new object that holds only the pixel data and the attributes that describe them, labelled MONOCHROME2, after the size
of the compressed frame or the length of uncompressed data has been checked. What comes back are the stored values;
signed ones are offset by half of their range, which is undone. It misreads big-endian data of 32 bits: not asked.

pydicom reads what is left: uncompressed data, RLE, and through Pillow JPEG and JPEG 2000.
"""

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxr_platform.errors import ImageRefused
from cxr_platform.intake.codestream import JPEG_START, check_scans, frame_size

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

PIXEL_ATTRIBUTES = (
    "SamplesPerPixel",
    "PlanarConfiguration",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
ONE_SAMPLE = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
Floats = NDArray[np.floating[Any]]
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"


def stored_values(dataset: "Dataset") -> Floats:
    """The stored values of a single-frame image whose header `intake.dicom` has checked.

    (rows, columns), or (rows, columns, 3) in RGB; whole numbers, below zero where Pixel Representation says signed.
    Palette images give their indices. Raises `ImageRefused` (undecodable) where the pixel data do not fit the header or
    neither library can read them.
    """
    _check_pixel_data(dataset)
    plain = _plain_copy(dataset)
    failures = []
    for decode in (_through_tensorflow, _through_pydicom):
        try:
            values = decode(plain)
        except Exception as error:  # both libraries raise anything on hostile bytes
            failures.append(f"{error}".strip().partition("\n")[0] or type(error).__name__)
            continue
        if values.shape == _shape(plain):
            return values
        failures.append(f"{values.shape} values in place of {_shape(plain)}")
    raise ImageRefused("undecodable", f"DICOM pixel data: {'; '.join(failures)}")


def _shape(dataset: "Dataset") -> tuple[int, ...]:
    colour = (3,) if dataset.SamplesPerPixel == 3 else ()
    return (dataset.Rows, dataset.Columns, *colour)


def _check_pixel_data(dataset: "Dataset") -> None:
    """Native decoders trust the lengths that they are given; so they are only given what fits."""
    from pydicom.encaps import get_frame
    from pydicom.pixels.utils import get_expected_length

    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        expected, found = get_expected_length(dataset), len(dataset.PixelData)
        if found < expected:
            raise ImageRefused("undecodable", f"{found:,} bytes of pixel data, the header asks for {expected:,}")
    elif syntax != RLE:
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
        if frame.startswith(JPEG_START):
            check_scans(frame)
        size = frame_size(frame)
        if size != (dataset.Columns, dataset.Rows, dataset.SamplesPerPixel):
            raise ImageRefused(
                "undecodable",
                f"the compressed frame ({syntax.name}) says {size or 'nothing of its size'}, "
                f"the header {dataset.Columns} × {dataset.Rows} × {dataset.SamplesPerPixel}",
            )


def _plain_copy(dataset: "Dataset") -> "Dataset":
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import generate_uid

    plain = Dataset()
    plain.SOPClassUID, plain.SOPInstanceUID = SECONDARY_CAPTURE, generate_uid()
    for keyword in PIXEL_ATTRIBUTES:
        if keyword in dataset:
            setattr(plain, keyword, dataset[keyword].value)
    plain.PhotometricInterpretation = _as_stored(dataset.PhotometricInterpretation)
    plain["PixelData"] = _even(dataset["PixelData"])
    plain.file_meta = FileMetaDataset()
    plain.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    return plain


def _as_stored(photometric: str) -> str:
    """The label under which a decoder gives grey and indices untouched, and the colours of JPEG 2000 as RGB."""
    if photometric in ONE_SAMPLE:
        return "MONOCHROME2"
    return "RGB" if photometric in ("YBR_ICT", "YBR_RCT") else photometric


def _even(pixel_data: "DataElement") -> "DataElement":
    """Pixel data of even length, as PS3.5 wants; some writers forget."""
    from pydicom import DataElement

    even = DataElement(pixel_data.tag, pixel_data.VR, pixel_data.value + b"\0" * (len(pixel_data.value) % 2))
    even.is_undefined_length = pixel_data.is_undefined_length
    return even


def _through_tensorflow(plain: "Dataset") -> Floats:
    if plain.file_meta.TransferSyntaxUID == EXPLICIT_BIG_ENDIAN:
        raise ValueError("tensorflow-io: big-endian data are not asked of it")
    import tensorflow as tf
    import tensorflow_io as tfio

    buffer = io.BytesIO()
    plain.save_as(buffer, enforce_file_format=True)
    with tf.device("CPU"):
        decoded: Any = tfio.image.decode_dicom_image(
            buffer.getvalue(), on_error="strict", scale="preserve", dtype=_exact_type(plain)
        )
    values = decoded.numpy()[0]
    if plain.PixelRepresentation == 1:
        values -= 2.0 ** (plain.BitsStored - 1)
    return values[..., 0] if values.shape[-1] == 1 else values


def _through_pydicom(plain: "Dataset") -> Floats:
    from pydicom.pixels import pixel_array

    return pixel_array(plain).astype(_exact_type(plain))


def _exact_type(plain: "Dataset") -> type[np.floating[Any]]:
    """The smaller float that holds every stored value exactly."""
    return np.float32 if plain.BitsAllocated <= 16 else np.float64
