"""The stored values of a DICOM object: its pixel data, decoded and checked, before any meaning is given to them.

They are decoded by pydicom and the decoders that it calls (`PLUGINS`). What these cannot read, above all JPEG with 12
bits, goes to tensorflow-io where that is installed. All get a new object that holds only the pixel data and the
attributes that describe them, labelled MONOCHROME2, after a check of the size of the compressed frame or of the length
of uncompressed data. tensorflow-io (DCMTK 3.6.5) would otherwise render: apply the modality transform, invert
MONOCHROME1, burn overlays in, and read past the end of pixel data that are too short. It returns signed values with an
offset of half their range, which is subtracted.
"""

import io
import struct
from collections.abc import Callable, Iterator
from copy import copy
from functools import partial
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydicom import DataElement, Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import get_decoder, pixel_array
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, RLELossless, generate_uid

from cxr_platform.errors import ImageRefused, last_line
from cxr_platform.intake.codestream import JPEG_START, check_runs, check_scans, frame_size, with_end_marker
from cxr_platform.intake.jpeg2000 import check_precincts

Floats: TypeAlias = NDArray[np.floating[Any]]

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
PLUGINS = ("pylibjpeg", "pyjpegls", "pillow", "pydicom", "gdcm")
"""Decoders of pydicom in the order in which they are tried: OpenJPEG for JPEG 2000, CharLS for JPEG-LS, libjpeg-turbo
for JPEG, pydicom's own for RLE, GDCM for lossless JPEG only, because damaged streams can end its process."""
LOSSLESS_JPEG = frozenset({JPEGLossless, JPEGLosslessSV1})
FOR_TENSORFLOW = LOSSLESS_JPEG | {JPEGExtended12Bit}
"""Transfer syntaxes that tensorflow-io may decode. It misreads others: some JPEG 2000, JPEG with a wrong label."""
WITHOUT_TENSORFLOW = (
    "; decompress the file (dcmdjpeg of DCMTK), or use the tensorflow stack, whose tensorflow-io may read it"
)
ONE_SAMPLE = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
ITEM_HEAD, ITEM_TAG = struct.Struct("<LL"), 0xE000FFFE
MAX_FRAGMENTS = 10_000
"""One or a few hundred in practice; a file of 64 MiB has so many of 6 KiB."""
MAX_OFFSET_BYTES = 2**16
"""Four bytes a frame; a frame that was taken from a series may still have the table of all."""
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def stored_values(dataset: Dataset) -> Floats:
    """Return the stored values of a single-frame image.

    (rows, columns), or (rows, columns, 3) in RGB; whole numbers, negative ones if Pixel Representation is signed. For a
    palette image these are the indices. Raises `ImageRefused` (undecodable) if the pixel data do not fit the header or
    no decoder can read them.
    """
    _check_pixel_data(dataset)
    plain = _plain_copy(dataset)
    shape = (plain.Rows, plain.Columns, *((3,) if plain.SamplesPerPixel == 3 else ()))
    failures = []
    for name, decode in _decoders(plain):
        try:
            values = decode(plain)
        except MemoryError:  # no fault of the file, which another decoder would not have either
            raise
        except Exception as error:  # every library raises anything on hostile bytes
            failures.append(f"{name}: {last_line(error)}")
            continue
        if values.shape == shape:
            return values
        failures.append(f"{name}: {values.shape} values in place of {shape}")
    syntax = plain.file_meta.TransferSyntaxUID
    if syntax == JPEGBaseline8Bit and failures and (closed := _without_end_marker(plain)) is not None:
        return closed
    reasons = "; ".join(failures) or "no decoder reads them"
    advice = WITHOUT_TENSORFLOW if syntax in FOR_TENSORFLOW and not find_spec("tensorflow_io") else ""
    raise ImageRefused("undecodable", f"DICOM pixel data, {syntax.name}: {reasons}{advice}")


def _without_end_marker(plain: Dataset) -> Floats | None:
    """Return the values of a JPEG that lacks only its end marker, `None` if pixels are missing."""

    def decode(frame: bytes) -> Floats:
        held = copy(plain)
        held.PixelData = encapsulate([frame])
        return _decode_with_pydicom(held, "pillow")

    closed = with_end_marker(get_frame(plain.PixelData, 0, number_of_frames=1), decode)
    return decode(closed) if closed else None


def _check_pixel_data(dataset: Dataset) -> None:
    """Raise `ImageRefused` for pixel data of another length than the header states: native decoders trust lengths."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        expected, received = get_expected_length(dataset), len(dataset.PixelData)
        if received < expected:
            raise ImageRefused("undecodable", f"{received:,} bytes of pixel data, the header asks for {expected:,}")
        return
    _check_fragments(dataset.PixelData)
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    if syntax == RLELossless:
        check_runs(frame, dataset.Columns * dataset.Rows)
    else:
        if frame.startswith(JPEG_START):
            check_scans(frame)
        size = frame_size(frame)
        if size != (dataset.Columns, dataset.Rows, dataset.SamplesPerPixel):
            raise ImageRefused(
                "undecodable",
                f"the compressed frame ({syntax.name}) states {size or 'no size'}, "
                f"the header {dataset.Columns} × {dataset.Rows} × {dataset.SamplesPerPixel}",
            )
        check_precincts(frame)


def _check_fragments(encapsulated: bytes) -> None:
    """Raise `ImageRefused` for a Basic Offset Table or a number of fragments beyond those of one frame.

    pydicom lists all of both, for each decoder again: a second and a gigabyte for a table of 64 MiB.
    """
    at = 0
    for number in range(MAX_FRAGMENTS + 1):
        if at + ITEM_HEAD.size > len(encapsulated):
            return
        tag, length = ITEM_HEAD.unpack_from(encapsulated, at)
        if tag != ITEM_TAG:
            return  # the end, or a fault that pydicom names
        if number == 0 and length > MAX_OFFSET_BYTES:
            raise ImageRefused("undecodable", f"DICOM: a Basic Offset Table of {length:,} bytes for one frame")
        at += ITEM_HEAD.size + length
    raise ImageRefused("undecodable", f"DICOM: more than {MAX_FRAGMENTS:,} fragments; save the object again")


def _plain_copy(dataset: Dataset) -> Dataset:
    """Return a new object with the pixel data and what describes them, and nothing that a decoder could render."""
    plain = Dataset()
    plain.SOPClassUID, plain.SOPInstanceUID = SECONDARY_CAPTURE, generate_uid()
    for keyword in PIXEL_ATTRIBUTES:
        if keyword in dataset:
            setattr(plain, keyword, dataset[keyword].value)
    photometric = dataset.PhotometricInterpretation
    if photometric in ONE_SAMPLE:  # a decoder returns grey and indices of MONOCHROME2 unchanged
        photometric = "MONOCHROME2"
    elif photometric in ("YBR_ICT", "YBR_RCT"):  # JPEG 2000 decodes to RGB
        photometric = "RGB"
    plain.PhotometricInterpretation = photometric
    data = dataset["PixelData"]  # of even length, as PS3.5 requires; some writers forget
    plain["PixelData"] = DataElement(data.tag, data.VR, data.value + b"\0" * (len(data.value) % 2))
    plain["PixelData"].is_undefined_length = data.is_undefined_length
    plain.file_meta = FileMetaDataset()
    plain.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    return plain


def _decoders(plain: Dataset) -> Iterator[tuple[str, Callable[[Dataset], Floats]]]:
    """Yield the installed decoders of the transfer syntax, each with its name, the most exact one first."""
    syntax = plain.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        yield "pydicom", _read_uncompressed
        return
    available = get_decoder(syntax).available_plugins
    for plugin in PLUGINS:
        if plugin in available and (plugin != "gdcm" or syntax in LOSSLESS_JPEG):
            yield plugin, partial(_decode_with_pydicom, plugin=plugin)
    if syntax in FOR_TENSORFLOW and find_spec("tensorflow_io"):
        yield "tensorflow-io", _decode_with_tensorflow


def _decode_with_pydicom(plain: Dataset, plugin: str = "") -> Floats:
    values: Floats = pixel_array(plain, decoding_plugin=plugin).astype(_exact_type(plain))
    return values


def _read_uncompressed(plain: Dataset) -> Floats:
    """Return uncompressed values; pydicom takes the lowest bits, whatever High Bit says."""
    lowest = plain.HighBit + 1 - plain.BitsStored
    if not lowest:
        return _decode_with_pydicom(plain)
    stored, signed = plain.BitsStored, plain.PixelRepresentation == 1
    whole = copy(plain)
    whole.BitsStored, whole.HighBit, whole.PixelRepresentation = plain.BitsAllocated, plain.BitsAllocated - 1, 0
    values = (pixel_array(whole).astype(np.int64) >> lowest) & (2**stored - 1)
    if signed:
        values -= (values >> (stored - 1)) << stored
    exact: Floats = values.astype(_exact_type(plain))
    return exact


def _decode_with_tensorflow(plain: Dataset) -> Floats:
    import tensorflow as tf
    import tensorflow_io as tfio

    buffer = io.BytesIO()
    plain.save_as(buffer, enforce_file_format=True)
    with tf.device("CPU"):
        decoded: Any = tfio.image.decode_dicom_image(
            buffer.getvalue(), on_error="strict", scale="preserve", dtype=_exact_type(plain)
        )
    values: Floats = decoded.numpy()[0]
    if plain.PixelRepresentation == 1:
        values -= 2.0 ** (plain.BitsStored - 1)
    return values[..., 0] if values.shape[-1] == 1 else values


def _exact_type(plain: Dataset) -> type[np.floating[Any]]:
    """Return the smaller float type that holds every stored value exactly."""
    return np.float32 if plain.BitsAllocated <= 16 else np.float64
