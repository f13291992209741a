"""Hostile headers: each is refused, or read as if nothing were wrong, in bounded work and memory."""

import struct
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from pydicom import Dataset, Sequence
from pydicom.datadict import tag_for_keyword
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from cxr_platform.config import DecodingConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.dicom import decode_dicom, read_source
from cxr_platform.intake.dicom_header import ATTRIBUTES, MAX_TABLE_BYTES, MAX_VALUE_BYTES, SEQUENCES, read_header
from tests.intake.files import (
    dataset,
    dicom,
    item,
    lines_run,
    long_element,
    many_elements,
    thorax,
    with_elements,
)

MOST_HEADER_LINES = 5_000_000
"""Lines of Python for a hostile file: up to 1.9 million. A file of empty elements takes 26 million without a limit."""
MOST_BYTES = 96 * 2**20
UNDEFINED = 0xFFFFFFFF
END = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
"""Sequence Delimitation Item."""
MIB = 2**20
PLAIN = dicom(thorax())


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return tag


def _sequence(keyword: str, value: bytes, length: int | None = None) -> bytes:
    return long_element(_tag(keyword), b"SQ", value, length)


def _empty_elements(size: int) -> bytes:
    return b"".join(struct.pack("<HH2sH", 9, 0x1000 + number % 0xE000, b"LO", 0) for number in range(size // 8))


def _nested(depth: int) -> bytes:
    """Sequences of undefined length, each in an item of the one before."""
    return (_sequence("ViewCodeSequence", b"", UNDEFINED) + item(b"", UNDEFINED)) * depth


def _nested_of_stated_length(depth: int) -> bytes:
    heads, length = [], 0
    for _ in range(depth):
        heads.append(_sequence("ViewCodeSequence", item(b"", length), length + 8))
        length += 20
    return b"".join(reversed(heads))


def _implicit(**attributes: object) -> bytes:
    image = dataset(thorax(), **attributes)
    image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return dicom(image)


EMPTY_ITEMS = item(b"") * (MIB // 8)
READ: dict[str, Callable[[], bytes]] = {
    "four sequences of empty items": lambda: with_elements(
        PLAIN, *(_sequence(keyword, EMPTY_ITEMS) for keyword in SEQUENCES)
    ),
    "functional groups": lambda: with_elements(PLAIN, long_element(0x52009230, b"SQ", EMPTY_ITEMS * 8)),
    "a private sequence": lambda: with_elements(PLAIN, long_element(0x00091001, b"SQ", EMPTY_ITEMS * 8)),
    "a private text": lambda: with_elements(PLAIN, long_element(0x00091001, b"UC", b"\\" * 8 * MIB)),
    "an icon image": lambda: with_elements(
        PLAIN, long_element(0x00880200, b"SQ", item(long_element(0x7FE00010, b"OB", bytes(4 * MIB))))
    ),
    "nested sequences of stated length": lambda: with_elements(PLAIN, _nested_of_stated_length(50_000)),
    "nested sequences in a sequence of stated length": lambda: with_elements(
        PLAIN, _sequence("VOILUTSequence", item(_nested(50_000)))
    ),
}
REFUSED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty elements": ("more elements and items", lambda: many_elements(PLAIN, 4 * MIB)),
    "an item of empty elements": (
        "more elements and items",
        lambda: with_elements(PLAIN, _sequence("VOILUTSequence", item(_empty_elements(MIB)))),
    ),
    "empty items of undefined length": (
        "more elements and items",
        lambda: with_elements(PLAIN, _sequence("VOILUTSequence", EMPTY_ITEMS * 8, UNDEFINED)),
    ),
    "nested sequences": ("too deep", lambda: with_elements(PLAIN, _nested(600_000))),
    "a character set": (
        "more elements and items",
        lambda: with_elements(PLAIN, long_element(0x00080005, b"UT", b"\\" * 8 * MIB)),
    ),
    "character sets of items": (
        "more elements and items",
        lambda: with_elements(
            PLAIN,
            _sequence(
                "ViewCodeSequence",
                item(struct.pack("<HH2sH", 8, 5, b"CS", 60_000) + b"\\" * 60_000) * 100,
                UNDEFINED,
            ),
        ),
    ),
    "a transfer syntax": (
        "more elements and items",
        lambda: PLAIN[:132] + struct.pack("<HHL", 2, 0x10, 8 * MIB) + b"\\" * 8 * MIB + PLAIN[132:],
    ),
    "windows": ("200,000 bytes of WindowCenter", lambda: _implicit(WindowCenter=["1"] * 100_000)),
    "padding": (
        "bytes of PixelPaddingValue",
        lambda: with_elements(PLAIN, long_element(_tag("PixelPaddingValue"), b"UC", b"1\\" * MIB)),
    ),
    "a sequence as patient": (
        "a sequence in place of PatientID",
        lambda: with_elements(PLAIN, _sequence("PatientID", item(b"") * 1000 + END, UNDEFINED)),
    ),
    "a sequence as rows": (
        "a sequence in place of Rows",
        lambda: with_elements(PLAIN, _sequence("Rows", EMPTY_ITEMS)),
    ),
    "text as pixels": (
        "PixelData as UC",
        lambda: PLAIN[: PLAIN.rindex(b"\xe0\x7f\x10\x00")] + long_element(0x7FE00010, b"UC", b"\\" * 8 * MIB),
    ),
    "a lookup table": (
        "1,048,576 bytes of LUTData",
        lambda: with_elements(PLAIN, _sequence("VOILUTSequence", item(long_element(0x00283006, b"OW", bytes(MIB))))),
    ),
    "a palette": (
        "1,048,576 bytes of RedPalette",
        lambda: with_elements(PLAIN, long_element(0x00281201, b"OW", bytes(MIB))),
    ),
    "overlays": (
        "a header of 20,",
        lambda: with_elements(
            PLAIN, *(long_element(0x60003000 + (number << 17), b"OW", bytes(4 * MIB)) for number in range(5))
        ),
    ),
}


@pytest.mark.parametrize("name", READ)
def test_what_is_not_used_is_not_parsed(name: str) -> None:
    data = READ[name]()
    expected = decode_dicom(PLAIN, DecodingConfig()).values

    def decode() -> None:
        np.testing.assert_array_equal(decode_dicom(data, DecodingConfig()).values, expected)

    if name == "nested sequences in a sequence of stated length":
        decode()  # a RecursionError ends it, and so a count
    else:
        assert lines_run(decode) < MOST_HEADER_LINES


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_header_is_refused_before_it_is_parsed(name: str) -> None:
    message, make = REFUSED[name]
    data = make()

    def decode() -> None:
        with pytest.raises(ImageRefused, match=message) as refused:
            decode_dicom(data, DecodingConfig())
        assert refused.value.reason == "undecodable"

    if name == "nested sequences":
        decode()  # a RecursionError ends it, and so a count
    else:
        assert lines_run(decode) < MOST_HEADER_LINES
    with pytest.raises(ImageRefused, match=message):
        read_source(data)


def test_sequences_too_deep_are_refused_alike_wherever_the_stack_ends() -> None:
    def reasons(data: bytes, depth: int) -> set[str]:
        if depth:
            return reasons(data, depth - 1) | {_refusal(data)}
        return {_refusal(data)}

    assert reasons(REFUSED["nested sequences"][1](), 20) == {"DICOM: sequences within sequences, too deep to be read"}


def test_too_many_items_are_refused_alike_wherever_the_limit_is_reached() -> None:
    items = _sequence("VOILUTSequence", EMPTY_ITEMS, UNDEFINED)
    elements = [struct.pack("<HH2sH", 9, 0x1000 + number, b"LO", 0) for number in range(6)]
    reasons = {_refusal(with_elements(PLAIN, *elements[:count], items)) for count in range(len(elements))}
    assert [reason[:30] for reason in reasons] == ["DICOM: more elements and items"]


def _refusal(data: bytes) -> str:
    with pytest.raises(ImageRefused) as refused:
        decode_dicom(data, DecodingConfig())
    return refused.value.detail


@pytest.mark.parametrize("name", ["four sequences of empty items", "nested sequences", "windows"])
def test_a_hostile_header_takes_little_memory(name: str) -> None:
    data = (READ[name] if name in READ else REFUSED[name][1])()
    tracemalloc.start()
    try:
        try:
            decode_dicom(data, DecodingConfig())
        except ImageRefused:
            assert name in REFUSED
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


def test_a_header_with_many_elements_and_large_overlays_is_read() -> None:
    made = dataset(thorax())
    for number in range(3):
        made.add_new((0x6000 + 2 * number, 0x3000), "OW", bytes(2**22))
    assert decode_dicom(many_elements(dicom(made), 8 * 3000), DecodingConfig()).container == "DICOM"


@pytest.mark.filterwarnings("ignore")  # pydicom warns when it writes a long PatientID
def test_the_longest_values_that_are_allowed_are_read() -> None:
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [0, 0, 16], np.arange(MAX_TABLE_BYTES // 2, dtype="<u2").tobytes()
    image = dataset(thorax().astype(np.uint16) * 257, VOILUTSequence=[table], PatientID="P" * MAX_VALUE_BYTES)
    assert decode_dicom(dicom(image), DecodingConfig()).patient == "P" * MAX_VALUE_BYTES


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("implicit", [False, True])
def test_the_first_item_of_a_sequence_is_kept_whatever_its_encoding(undefined: bool, implicit: bool) -> None:
    items = []
    for meaning in ("Lungenübersicht", "postero-anterior"):
        code = Dataset()
        code.CodeValue, code.CodeMeaning, code.CodingSchemeDesignator = "1", meaning, "99X"
        items.append(code)
    image = dataset(thorax(), SpecificCharacterSet="ISO_IR 192", ViewCodeSequence=Sequence(items))
    image["ViewCodeSequence"].value.is_undefined_length = undefined
    if implicit:
        image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    header = read_header(dicom(image))
    assert [code.CodeMeaning for code in header.ViewCodeSequence] == ["Lungenübersicht"]
    assert header.ViewCodeSequence[0].dir() == ["CodeMeaning", "CodeValue"]


def test_a_sequence_that_cannot_be_read_counts_as_absent() -> None:
    for value in (b"", b"abc", item(b"")[:5]):
        header = read_header(with_elements(PLAIN, _sequence("ViewCodeSequence", value)))
        assert "ViewCodeSequence" not in header
    assert decode_dicom(with_elements(PLAIN, _sequence("ViewCodeSequence", b"abc")), DecodingConfig()).view == "PA"


def test_no_other_attribute_is_kept() -> None:
    image = dataset(thorax(), InstitutionName="St. Elsewhere", StudyDescription="Chest")
    header = read_header(dicom(image))
    assert set(header.dir()) <= set(ATTRIBUTES)
    assert "StudyDescription" in header


def test_a_deflated_object_is_refused() -> None:
    image = dataset(thorax())
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    with pytest.raises(ImageRefused, match="deflated") as refused:
        decode_dicom(dicom(image), DecodingConfig())
    assert refused.value.reason == "undecodable"
