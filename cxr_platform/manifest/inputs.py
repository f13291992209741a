"""What a manifest is made of, in two hashes: so that it is known again without opening an image."""

import hashlib
import json
from collections.abc import Iterable, Iterator

from cxr_platform.intake.candidate import Candidate
from cxr_platform.intake.overrule import Overrule
from cxr_platform.intake.sources import Inventory
from cxr_platform.manifest.records import FileKey
from cxr_platform.storage.files import read_errors


def inputs_of(found: Inventory, lists: Overrule) -> dict[str, str]:
    """`files_hash` and `overrule_hash` of manifest.json, the same on every machine and at any time."""
    return {
        "files_hash": _hash(_told(candidate) for candidate in found.candidates),
        "overrule_hash": _hash([sorted(lists.allow), sorted(lists.deny)]),
    }


def _told(candidate: Candidate) -> Iterator[object]:
    """Size in bytes, and what the collection says, which is all that its tables are read for."""
    yield file_key(candidate).size
    yield from (value for name, value in vars(candidate).items() if name != "path")


def _hash(lines: Iterable[Iterable[object]]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(json.dumps(list(line), default=vars).encode())
    return digest.hexdigest()


def file_key(candidate: Candidate) -> FileKey:
    """The state of the file now; of one that is not to be had, sizes of -1, and opening it will say why.

    Raises `StorageError` for a store that does not answer.
    """
    try:
        with read_errors(candidate.path, remote_only=True):
            status = candidate.path.stat()
    except OSError:
        return FileKey(candidate.source_path, -1, -1)
    return FileKey(candidate.source_path, status.st_size, status.st_mtime_ns)
