"""A `ManifestInfo` for tests that write a manifest without building one."""

from typing import Any

from cxr_platform.config import IntakeConfig
from cxr_platform.manifest.schema import ManifestInfo

EXAMPLE: dict[str, Any] = {
    "content_hash": "abc",
    "seed": 1,
    "folds": 2,
    "synthetic": False,
    "images": 0,
    "files": 0,
    "counts": {},
    "contrast": {},
    "reader_labels": {},
    "excluded": {},
    "shortfalls": (),
    "groups": {},
    "missing_files": {},
    "ignored_columns": {},
    "known_patients": {},
    "shared_patients": {},
    "origins": {},
    "config": IntakeConfig(),
    "created_with": {},
    "files_hash": "",
    "overrule_hash": "",
}


def manifest_info(**changes: Any) -> ManifestInfo:
    return ManifestInfo(**{**EXAMPLE, **changes})
