"""Orthanc, a PACS with a DICOMweb plugin, on loopback with a folder of its own (Debian: orthanc, orthanc-dicomweb)."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ports import free_port
from tests.waiting import wait_until

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "ward", "a-password-of-the-test"
START_SECONDS = 120.0


@dataclass(frozen=True)
class Orthanc:
    """A running server; `rest` speaks its own API."""

    url: str
    rest: httpx.Client

    @property
    def dicomweb(self) -> str:
        return f"{self.url}/dicom-web"

    @property
    def login(self) -> str:
        return f"{USER}:{PASSWORD}"

    def upload(self, file: bytes) -> None:
        self.rest.post("/instances", content=file).raise_for_status()

    def instances(self, study_uid: str) -> list[dict[str, Any]]:
        """All instances of a study by the keywords of their attributes."""
        query = {"Level": "Instance", "Query": {"StudyInstanceUID": study_uid}}
        found = self.rest.post("/tools/find", json=query).raise_for_status().json()
        return [self.rest.get(f"/instances/{name}/simplified-tags").raise_for_status().json() for name in found]


@contextmanager
def orthanc(folder: Path) -> Iterator[Orthanc]:
    """Run Orthanc with its files in `folder`; skip the test where it is not installed."""
    program = shutil.which("Orthanc")
    if program is None or not PLUGIN.exists():
        pytest.skip("Orthanc is not installed (Debian's packages orthanc and orthanc-dicomweb)")
    port = free_port()
    settings = {
        "HttpPort": port,
        "DicomServerEnabled": False,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=(USER, PASSWORD), timeout=60) as rest:
            wait_until(lambda: _answers(process, rest, folder / "log.txt"), START_SECONDS)
            yield Orthanc(f"http://127.0.0.1:{port}", rest)
    finally:
        process.terminate()
        process.wait()


def _answers(process: "subprocess.Popen[bytes]", rest: httpx.Client, log: Path) -> bool:
    assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")
    try:
        return rest.get("/dicom-web/studies").status_code == 200
    except httpx.TransportError:
        return False
