"""What a DICOMweb server answers, for `planned_server`."""

import json
from typing import Any

JSON = {"Content-Type": "application/dicom+json"}


def stow_answer(stored: list[str], failed: dict[str, int]) -> bytes:
    def items(uids: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"00081155": {"vr": "UI", "Value": [uid]}, **more} for uid, more in uids.items()]

    reasons = {uid: {"00081197": {"vr": "US", "Value": [code]}} for uid, code in failed.items()}
    sequences = {"00081199": items({uid: {} for uid in stored}), "00081198": items(reasons)}
    return json.dumps({tag: {"vr": "SQ", "Value": value} for tag, value in sequences.items() if value}).encode()


def study_metadata(*uids: str) -> bytes:
    values: dict[str, dict[str, Any]] = {
        "0020000E": {"vr": "UI", "Value": ["1.2"]},
        "00280010": {"vr": "US", "Value": [9]},
    }
    return json.dumps([{**values, "00080018": {"vr": "UI", "Value": [uid]}} for uid in uids]).encode()


def part(content: bytes) -> tuple[int, dict[str, str], bytes]:
    """An answer to WADO-RS with one object."""
    header = {"Content-Type": 'multipart/related; type="application/dicom"; boundary="=="'}
    return 200, header, b"--==\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--==--"
