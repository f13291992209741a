"""Image files in memory for the tests of intake."""

import io
import struct
import sys
import zlib
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, generate_uid

MOST_LINES = 500_000
"""Lines of Python, by `lines_run`, in which a hostile file is refused: up to 120,000, and millions without a limit."""

DX = "1.2.840.10008.5.1.4.1.1.1.1"


def ramp(height: int = 60, width: int = 80) -> NDArray[np.uint8]:
    """Black at the left, white at the right."""
    return np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))


def thorax(size: int = 200) -> NDArray[np.uint8]:
    """Two dark lungs beside a bright mediastinum, in soft tissue, in air."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    image = np.where(np.abs(x) < 0.85, 170, 10)
    lungs = (((np.abs(x) - 0.42) / 0.3) ** 2 + (y / 0.75) ** 2) < 1
    return np.where(lungs, 60, image).astype(np.uint8) + (np.abs(x * 20).astype(np.uint8) % 2) * 8


def png(image: Image.Image | NDArray[Any], **options: Any) -> bytes:
    return saved(image, "PNG", **options)


def chunk(name: bytes, value: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(value)) + name + value + struct.pack(">I", zlib.crc32(name + value))


def jpeg(image: Image.Image | NDArray[Any], **options: Any) -> bytes:
    return saved(image, "JPEG", quality=95, **options)


def scan_bomb(side: int, scans: int) -> bytes:
    """A black progressive JPEG whose last scan, of a few bytes, comes again until there are so many of them."""
    whole = jpeg(np.zeros((side, side), np.uint8), progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * (scans - whole.count(b"\xff\xda")) + whole[-2:]


def saved(image: Image.Image | NDArray[Any], container: str, **options: Any) -> bytes:
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    picture.save(buffer, container, **options)
    return buffer.getvalue()


def dataset(values: NDArray[Any], **attributes: Any) -> Dataset:
    """An uncompressed radiograph of integer `values`, (rows, columns) or (rows, columns, 3)."""
    bits = values.dtype.itemsize * 8
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = DX, generate_uid(entropy_srcs=["image"])
    image.Modality, image.PatientID, image.ViewPosition = "DX", "P1", "PA"
    image.Rows, image.Columns = values.shape[:2]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    if values.ndim == 3:
        image.SamplesPerPixel, image.PhotometricInterpretation, image.PlanarConfiguration = 3, "RGB", 0
    image.BitsAllocated = image.BitsStored = bits
    image.PixelRepresentation = int(values.dtype.kind == "i")
    image.PixelData = values.tobytes() + b"\0" * (values.nbytes % 2)
    for keyword, value in attributes.items():
        setattr(image, keyword, value)
    image.HighBit = attributes.get("HighBit", image.BitsStored - 1)
    return image


def jpeg_dataset(values: NDArray[np.uint8], **attributes: Any) -> Dataset:
    """A radiograph of 8 bits whose pixel data are a JPEG."""
    image = dataset(values, **attributes)
    image.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    image.PixelData = encapsulate([jpeg(values)])
    return image


def many_elements(file: bytes, size: int) -> bytes:
    """Return a DICOM file (explicit VR, little endian) with `size` bytes of empty private elements in front."""
    begin = 144 + int.from_bytes(
        file[140:144], "little"
    )  # after the File Meta Information, whose length is its first value
    elements = (struct.pack("<HH2sH", 9, 0x1000 + number % 0xE000, b"LO", 0) for number in range(size // 8))
    return file[:begin] + b"".join(elements) + file[begin:]


def with_elements(file: bytes, *elements: bytes) -> bytes:
    """Return a DICOM file with encoded elements before its pixel data."""
    at = file.rindex(b"\xe0\x7f\x10\x00")
    return file[:at] + b"".join(elements) + file[at:]


def long_element(tag: int, representation: bytes, value: bytes, length: int | None = None) -> bytes:
    """Encode an element with a length of 32 bits (explicit VR, little endian), that of its value or another."""
    stated = len(value) if length is None else length
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, representation, 0, stated) + value


def item(value: bytes, length: int | None = None) -> bytes:
    """Encode an item of a sequence."""
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(value) if length is None else length) + value


def lines_run(function: Callable[[], object]) -> int:
    """Count the lines of Python that a call runs, as many on every machine; work in C does not count.

    A `RecursionError` ends the count, which is an error here.
    """
    count, before = 0, sys.gettrace()

    def trace(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        nonlocal count
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        function()
        assert sys.gettrace() is trace, "Python has stopped to count"
    finally:
        sys.settrace(before)
    return count


def dicom(image: Dataset | NDArray[Any], **attributes: Any) -> bytes:
    """The file of a dataset, or of values with the attributes of a radiograph."""
    image = image if isinstance(image, Dataset) else dataset(image, **attributes)
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
