"""The header of a DICOM object, read in bounded time and memory: the attributes that are used, and no other.

pydicom parses elements and sequences of undefined length while it reads a file, and everything else when a value is
asked for: also a sequence of stated length with all its items, or a text with a million values. So reads are counted
while a file is read, all attributes that this package does not use are dropped before they are parsed, the values of
the others are limited, and of a sequence only the first item is parsed.
"""

import io
from types import MappingProxyType

from pydicom import DataElement, Dataset, Sequence, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.filereader import read_sequence_item
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.valuerep import AMBIGUOUS_VR, BYTES_VR

from cxr_platform.errors import ImageRefused

DEFLATED = b"1.2.840.10008.1.2.1.99"
MAX_READS = 20_000
"""Reads of the parser, two or three for each element or item: radiographs have up to a few hundred elements."""
MAX_HEADER_BYTES = 16 * 2**20
"""Values other than Pixel Data: overlays have some megabytes."""
MAX_VALUE_BYTES = 4096
"""A text or numbers: none that are used have more than 64 characters in the standard, a name has 324."""
MAX_TABLE_BYTES = 2**17
"""A lookup table: 65,536 entries of two bytes, the most that its descriptor can state."""
CHARACTER_SET = (b"\x08\x00\x05\x00", b"\x00\x08\x00\x05")
"""Tag of Specific Character Set, in both byte orders."""
FILE_META_GROUP = b"\x02\x00"

_PALETTES = tuple(f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue", "Alpha"))
TABLES = frozenset({"LUTData", *(f"{palette}Data" for palette in _PALETTES)})
SEQUENCES = MappingProxyType(
    {
        **dict.fromkeys(("ViewCodeSequence", "AnatomicRegionSequence"), ("CodeValue", "CodeMeaning")),
        **dict.fromkeys(("ModalityLUTSequence", "VOILUTSequence"), ("LUTDescriptor", "LUTData")),
    }
)
"""The sequences of which the first item is used, and the attributes that are used there."""
ATTRIBUTES = (
    # what the image is (`dicom`)
    *("SpecificCharacterSet", "SOPClassUID", "Modality", "NumberOfFrames", "PresentationIntentType"),
    *("ViewPosition", "PatientPosition", "BodyPartExamined", "PatientID", "PatientSex", "PatientAge"),
    *("AcquisitionDeviceProcessingDescription", "SeriesDescription", "ProtocolName"),
    # its pixels (`dicom_pixels`)
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"),
    # what they look like (`dicom_grey`)
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction"),
    *(f"{palette}{part}" for palette in _PALETTES for part in ("Descriptor", "Data")),
    # what a document about it takes over (`dicom_source`)
    *("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "IssuerOfPatientID", "PatientName"),
    *("PatientBirthDate", "StudyID", "StudyDate", "StudyTime", "StudyDescription", "AccessionNumber"),
    *("ReferringPhysicianName", "PatientOrientation", "BurnedInAnnotation", "LossyImageCompression"),
    *SEQUENCES,
)
"""The attributes that are kept. One that is not named here is absent for all that comes after."""


def read_header(data: bytes) -> Dataset:
    """Return `ATTRIBUTES` of a DICOM object, with the first item of each sequence, and its transfer syntax.

    Raises `ImageRefused` (undecodable) for an object beyond the limits, or what pydicom raises for one that it cannot
    parse. A sequence that it cannot parse counts as absent.
    """
    if DEFLATED in data:
        # pydicom would inflate the whole object, of any size, before its header can be checked.
        raise ImageRefused("undecodable", "DICOM: the deflated transfer syntax is not supported; save it uncompressed")
    try:
        dataset = dcmread(_BoundedFile(data), force=True)
    except (RecursionError, OSError) as error:
        # pydicom raises `OSError` in place of whatever is raised while it reads the tag of an item.
        cause = error.__context__ if isinstance(error, OSError) else error
        if isinstance(cause, RecursionError):
            raise ImageRefused("undecodable", "DICOM: sequences within sequences, too deep to be read") from None
        raise cause if isinstance(cause, ImageRefused) else error from None
    _check_length(dataset)
    _keep(dataset, ATTRIBUTES)
    for keyword in SEQUENCES:
        if keyword in dataset:
            _keep_first_item(dataset, keyword)
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = UID(ImplicitVRLittleEndian if implicit else explicit)
    return dataset


class _BoundedFile(io.BytesIO):
    """A file in memory of which a parser may read `MAX_READS` times: so many elements and items can it have.

    A file of empty elements would otherwise cost a second and 60 MB for each of its megabytes. Each byte of a character
    set and of the File Meta Information counts as a read, since pydicom converts these values while it reads.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads = 0
        self._head = b""

    def read(self, size: int | None = -1) -> bytes:
        """See `io.BytesIO`; raise `ImageRefused` after too many calls."""
        value = super().read(size)
        converted = self._head[:4] in CHARACTER_SET or self._head[:2] == FILE_META_GROUP
        self._reads += 1 + (len(value) if converted else 0)
        if self._reads > MAX_READS:
            raise ImageRefused(
                "undecodable",
                f"DICOM: more elements and items than {MAX_READS:,} reads of the parser, radiographs take a few "
                "hundred; remove private elements and sequences",
            )
        if len(value) == 8:  # the tag of the value that is read next
            self._head = value
        return value


def _check_length(dataset: Dataset) -> None:
    """Raise `ImageRefused` for a header that is longer than that of any radiograph."""
    pixels, total = Tag("PixelData"), 0
    for tag in dataset.keys():  # noqa: SIM118  # iterating over the dataset itself would parse the values
        element = dataset.get_item(tag)
        if tag != pixels and isinstance(element, RawDataElement):
            total += len(element.value or b"")
    if total > MAX_HEADER_BYTES:
        raise ImageRefused(
            "undecodable",
            f"DICOM: a header of {total:,} bytes, the limit is {MAX_HEADER_BYTES:,}; remove overlays and private "
            "elements",
        )


def _keep(dataset: Dataset, keywords: tuple[str, ...]) -> None:
    """Drop every other attribute of a dataset or item; raise `ImageRefused` for values that are too long to parse."""
    kept = {tag_for_keyword(keyword): keyword for keyword in keywords}
    for tag in list(dataset.keys()):
        keyword = kept.get(tag)
        if keyword is None:
            del dataset[tag]
        elif keyword not in SEQUENCES:
            _check_value(keyword, dataset.get_item(tag))


def _check_value(keyword: str, element: DataElement | RawDataElement | None) -> None:
    """Raise `ImageRefused` for a sequence in place of a value, and for a value that is too long."""
    representation = element.VR if element else None
    length = len(element.value or b"") if isinstance(element, RawDataElement) else 0
    in_bytes = representation is None or representation in BYTES_VR | AMBIGUOUS_VR
    if representation == "SQ":
        raise ImageRefused("undecodable", f"DICOM: a sequence in place of {keyword}; save the object again")
    if keyword == "PixelData":
        if not in_bytes:
            raise ImageRefused("undecodable", f"DICOM: {keyword} as {representation} in place of OB or OW")
        return
    table = keyword in TABLES and (in_bytes or representation == "US")
    limit = MAX_TABLE_BYTES if table else MAX_VALUE_BYTES
    if length > limit:
        raise ImageRefused(
            "undecodable", f"DICOM: {length:,} bytes of {keyword}, the limit is {limit:,}; correct or remove it"
        )


def _keep_first_item(dataset: Dataset, keyword: str) -> None:
    """Replace a sequence by its first item, with the attributes that are used; delete one that cannot be read."""
    tag = Tag(keyword)
    item = _first_item(dataset, tag)
    if item is None:
        del dataset[tag]
        return
    _keep(item, SEQUENCES[keyword])
    dataset[tag] = DataElement(tag, "SQ", Sequence([item]))


def _first_item(dataset: Dataset, tag: BaseTag) -> Dataset | None:
    element = dataset.get_item(tag)
    if isinstance(element, DataElement):  # of undefined length, which pydicom has parsed
        return element.value[0] if element.VR == "SQ" and element.value else None
    if element.VR not in ("SQ", "UN", None) or not element.value:
        return None
    file = _BoundedFile(element.value)
    try:
        return read_sequence_item(
            file, element.is_implicit_VR, element.is_little_endian, dataset.original_character_set
        )
    except ImageRefused:
        raise
    except Exception:  # pydicom raises anything
        return None
