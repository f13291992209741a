"""Patient keys as salted hashes: the same patient gives the same value, and no name is stored.

The salt is the environment variable `CXR_PATIENT_SALT`, by default `PUBLISHED_SALT`. Patient keys of public collections
are public themselves, and with this default their manifest has the same content hash on every machine. For images of
your own set the variable, to the same value wherever you want the same hash.
"""

import hashlib
import hmac
import os
from collections.abc import Mapping

SALT_VARIABLE = "CXR_PATIENT_SALT"
PUBLISHED_SALT = "cxr-platform"


def patient_salt() -> str:
    """Return the salt for all patient keys of a manifest."""
    return os.environ.get(SALT_VARIABLE) or PUBLISHED_SALT


def key_space(source: str, origins: Mapping[str, str]) -> str:
    """Return the name of what equal keys are one patient in: the origin of `source` if it is stated, else the source.

    No source has the name of an origin's key space.
    """
    origin = origins.get(source)
    return source if origin is None else f"origin\0{origin}"


def pseudonym(salt: str, space: str, patient: str | None) -> str | None:
    """Return 32 hex digits for a patient of a `key_space`; `None` if the collection names none."""
    if not patient:
        return None
    return _hash(salt, space, patient)


def header_pseudonym(salt: str, space: str, patient: str | None) -> str | None:
    """Return `pseudonym` for a patient in a DICOM header; it differs from that of an equal key in a table."""
    return _hash(salt, space, f"DICOM\0{patient}") if patient else None


def _hash(salt: str, space: str, patient: str) -> str:
    return hmac.new(salt.encode(), f"{space}\0{patient}".encode(), hashlib.sha256).hexdigest()[:32]
