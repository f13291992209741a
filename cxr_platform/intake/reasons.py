"""The reason codes of `excluded.parquet`, each with the sentence that a person reads."""

from collections.abc import Mapping
from types import MappingProxyType

REASONS: Mapping[str, str] = MappingProxyType(
    {
        # what the file is
        "not-an-image": "the content is no PNG, JPEG or DICOM image, whatever the name says",
        "unreadable": "the file cannot be opened or read",
        "undecodable": "the content begins like an image but cannot be decoded",
        "too-large": "more bytes or pixels than the limits of the profile",
        "multi-frame": "a DICOM object with several frames; an image has one",
        "no-pixel-data": "a DICOM object without an image",
        # what the collection says of it
        "not-listed": "the collection's table has no row for this file",
        "modality": "not a projection radiograph (CT, say)",
        "view": "not a frontal view",
        "no-finding-given": "the table leaves the finding empty",
        "finding-not-studied": "the finding is none of the seven classes",
        "several-findings": "more than one of the seven classes applies",
        "further-findings": "further findings beside the one studied (single-finding-only)",
        "unknown-folder": "the folder's name is none of the seven classes",
        # what the image looks like
        "low-contrast": "grey values too close together",
        "partial": "only part of the thorax, or not the shape of a frontal image",
        "not-upright": "no mediastinum between lungs from left to right: the image lies on its side, say",
        "low-resolution": "fewer pixels than an image needs",
        # what the study decides
        "duplicate": "the same file or the same pixels as another image of the manifest",
        "conflicting-label": "the same image stands in the collections under another label",
        "not-drawn": "not drawn when the class was capped",
        "denied": "named in the deny list",
    }
)
