"""Patient keys of the collections as salted hashes: the same patient gives the same value, and no name is stored.

The salt is `CXR_PATIENT_SALT` from the environment; without it, a published one. The patient keys of public collections
are published themselves, so nothing is lost by it, and the manifest, with its content hash, is the same on every
machine. For images of your own set the variable, to the same value wherever the same hash is wanted.
"""

import hashlib
import hmac
import os

SALT_VARIABLE = "CXR_PATIENT_SALT"
PUBLISHED_SALT = "cxr-platform"


def patient_salt() -> str:
    """The salt for all patient keys of a manifest."""
    return os.environ.get(SALT_VARIABLE) or PUBLISHED_SALT


def pseudonym(salt: str, source: str, patient: str | None) -> str | None:
    """32 hex digits for a patient of a source; `None` where the collection names none."""
    if not patient:
        return None
    return _hash(salt, source, patient)


def header_pseudonym(salt: str, source: str, patient: str | None) -> str | None:
    """The same for a patient that the header of a DICOM object names: never that of an equal key in a table."""
    return _hash(salt, source, f"DICOM\0{patient}") if patient else None


def _hash(salt: str, source: str, patient: str) -> str:
    return hmac.new(salt.encode(), f"{source}\0{patient}".encode(), hashlib.sha256).hexdigest()[:32]
