"""Two hundred DICOM objects with damaged headers: the answer is an image or a reason, never another exception."""

import io
import struct
import tracemalloc
import warnings
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from cxr_platform.config import DecodingConfig, IntakeConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.candidate import REASONS
from cxr_platform.intake.images import read_image
from tests.intake.files import dataset, dicom, jpeg_dataset, saved, thorax

CONFIG = IntakeConfig(DecodingConfig(max_pixels=500_000))
MOST_BYTES = 48 * 2**20
"""Float64 values of the most pixels, and several copies of them."""
LONG = {b"OB", b"OW", b"OF", b"SQ", b"UT", b"UN"}
"""Value representations with a length of 32 bits."""


@dataclass(frozen=True)
class Element:
    """One data element: `length` is what the file states."""

    tag: int
    representation: bytes
    value: bytes
    length: int

    def encoded(self) -> bytes:
        head = struct.pack("<HH", self.tag >> 16, self.tag & 0xFFFF) + self.representation
        if self.representation in LONG:
            return head + struct.pack("<HL", 0, self.length & 0xFFFFFFFF) + self.value
        return head + struct.pack("<H", self.length & 0xFFFF) + self.value


def elements(image: Dataset) -> list[Element]:
    found = []
    for element in dcmread(io.BytesIO(dicom(image))):  # with its value representations
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write_data_element(buffer, element)
        written = buffer.getvalue()
        start = 12 if element.VR.encode() in LONG else 8
        (length,) = struct.unpack_from("<L" if start == 12 else "<H", written, start - (4 if start == 12 else 2))
        found.append(Element(int(element.tag), element.VR.encode(), written[start:], length))
    return found


def originals() -> dict[str, tuple[str, list[Element]]]:
    """Name → transfer syntax and elements."""
    grey = thorax(64)
    deep = dataset(
        grey.astype(np.uint16) * 16,
        BitsStored=12,
        WindowCenter=2000,
        WindowWidth=3000,
        RescaleSlope=1,
        RescaleIntercept=0,
        NumberOfFrames=1,
        PatientAge="061Y",
        PatientSex="F",
    )
    deep.add_new("PixelPaddingValue", "US", 0)
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4096, 0, 16])
    table.add_new("LUTData", "OW", np.arange(4096, dtype="<u2").tobytes())
    with_tables = dataset(
        grey.astype(np.uint16) * 16, VOILUTSequence=Sequence([table]), ModalityLUTSequence=Sequence([table])
    )
    palette = dataset(grey, PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        palette.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        palette.add_new(f"{colour}PaletteColorLookupTableData", "OW", (np.arange(256) * 257).astype("<u2").tobytes())
    runs = dataset(grey)
    runs.compress(RLELossless, encoding_plugin="pydicom")
    wavelet = dataset(grey, WindowCenter=128, WindowWidth=256)
    wavelet.PixelData = encapsulate([saved(grey, "JPEG2000", no_jp2=True)])
    wavelet["PixelData"].is_undefined_length = True
    jpeg = jpeg_dataset(grey)
    jpeg["PixelData"].is_undefined_length = True
    return {
        "deep": (ExplicitVRLittleEndian, elements(deep)),
        "tables": (ExplicitVRLittleEndian, elements(with_tables)),
        "palette": (ExplicitVRLittleEndian, elements(palette)),
        "colour": (ExplicitVRLittleEndian, elements(dataset(np.dstack([grey] * 3)))),
        "runs": (RLELossless, elements(runs)),
        "wavelet": (JPEG2000Lossless, elements(wavelet)),
        "jpeg": (JPEGBaseline8Bit, elements(jpeg)),
    }


ORIGINALS = originals()
NUMBERS = st.sampled_from([0, 1, 2, 3, 7, 8, 9, 12, 15, 16, 17, 31, 32, 63, 64, 65, 255, 4096, 32767, 65535]).map(
    lambda number: struct.pack("<H", number)
)
TEXTS = st.sampled_from(
    [
        *("", " ", "0", "-0", "1", "-1", "2", "1.5", "1e-320", "1e308", "-1e308", "1e999", "nan", "inf", "abc", "N/A"),
        *("1\\2\\3", "\\", "\\\\5", "99999999999999999999", "1 2", "\0\0", "0x10", "1,5", "\xff\xfe", "PA", "L", "CT"),
        *("MONOCHROME1", "MONOCHROME2", "monochrome2", "RGB", "YBR_FULL", "YBR_FULL_422", "PALETTE COLOR", "YBR_RCT"),
        *("SIGMOID", "LINEAR_EXACT", "061Y", "999Z", "HSV"),
    ]
).map(lambda text: text.encode("latin-1") + b" " * (len(text) % 2))
VALUES = NUMBERS | TEXTS | st.binary(max_size=40)
REPRESENTATIONS = st.sampled_from(
    [
        *(b"US", b"SS", b"UL", b"SL", b"FD", b"FL", b"DS", b"IS", b"CS", b"LO", b"AT", b"PN", b"AS", b"DA"),
        *(b"OB", b"OW", b"OF", b"SQ", b"UT", b"UN", b"ZZ", b"\0\0"),
    ]
)
LENGTHS = st.sampled_from([0, 1, 2, 3, 7, 255, 65534, 65535, 2**20, 2**31, 2**32 - 2, 2**32 - 1])
SYNTAXES = st.sampled_from(  # not lossless JPEG: its native decoder may end the process for bytes of another kind
    [
        *(ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian),
        *(RLELossless, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, "1.2.3", "", "x" * 64),
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A file with one to four faults in its header."""
    syntax, parts = ORIGINALS[draw(st.sampled_from(sorted(ORIGINALS)))]
    parts = list(parts)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(parts) - 1))
        fault = draw(st.sampled_from(["delete", "value", "value", "value", "representation", "length", "twice"]))
        if fault == "delete" and len(parts) > 1:
            del parts[at]
        elif fault == "value":
            value = draw(VALUES)
            parts[at] = replace(parts[at], value=value, length=len(value))
        elif fault == "representation":
            parts[at] = replace(parts[at], representation=draw(REPRESENTATIONS))
        elif fault == "length":
            parts[at] = replace(parts[at], length=draw(LENGTHS))
        elif fault == "twice":
            parts.insert(at, parts[at])
    if draw(st.integers(0, 9)) == 0:
        syntax = draw(SYNTAXES)
    body = b"".join(part.encoded() for part in parts)
    if draw(st.integers(0, 9)) == 0:
        body = body[: draw(st.integers(0, len(body)))]
    return preamble(syntax) + body


def preamble(syntax: str) -> bytes:
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    meta = Element(0x00020010, b"UI", value, len(value)).encoded()
    return b"\0" * 128 + b"DICM" + Element(0x00020000, b"UL", struct.pack("<L", len(meta)), 4).encoded() + meta


def outcome(data: bytes) -> str:
    """Return "image" or the reason, after a check of both."""
    refused: ImageRefused | None = None
    try:
        image = read_image(data, CONFIG)
    except ImageRefused as error:
        refused = error
    if refused:
        assert refused.reason in REASONS
        assert refused.detail.strip()
        return refused.reason
    assert image.pixels.shape == (200, 200)
    assert image.pixels.dtype == np.uint8
    assert min(image.width, image.height) >= 1
    assert np.isfinite([image.mean, image.std, image.quality.contrast, image.quality.uprightness]).all()
    return "image"


def test_the_originals_are_images() -> None:
    for syntax, parts in ORIGINALS.values():
        assert outcome(preamble(syntax) + b"".join(part.encoded() for part in parts)) == "image"


def test_a_mutated_header_gives_an_image_or_a_reason_in_bounded_memory() -> None:
    outcomes: Counter[str] = Counter()

    @settings(max_examples=200)
    @given(mutated())
    def decode(data: bytes) -> None:
        tracemalloc.reset_peak()
        held, _ = tracemalloc.get_traced_memory()
        outcomes[outcome(data)] += 1
        assert tracemalloc.get_traced_memory()[1] - held < MOST_BYTES

    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # also of pydicom: intake suppresses what irregular values warn of
            decode()
    finally:
        tracemalloc.stop()
    assert outcomes.total() >= 200
    assert min(outcomes["image"], outcomes["undecodable"]) >= 20
    assert len(outcomes) >= 4
