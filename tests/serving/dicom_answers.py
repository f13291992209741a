"""Answers, images of a patient, and their DICOM documents read back by highdicom and by independent programs."""

import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom.sr import MeasurementReport, srread
from pydicom import Dataset, dcmread

from cxr_platform.intake.dicom import read_source
from cxr_platform.intake.dicom_source import DicomSource
from cxr_platform.serving import schema
from cxr_platform.serving.answers import explanation
from cxr_platform.serving.dicom_document import encode_document
from cxr_platform.serving.heatmap import grey_png, overlay_png
from cxr_platform.serving.schema import ScreenAnswer
from tests.intake.files import dicom
from tests.serving.builders import image

STUDY = {
    "StudyInstanceUID": "1.2.3.4",
    "SeriesInstanceUID": "1.2.3.4.5",
    "PatientName": "Müller^Eva",
    "SpecificCharacterSet": "ISO_IR 192",
    "StudyDate": "20260131",
    "StudyTime": "101502",
    "StudyID": "7",
    "PatientOrientation": ["L", "F"],
    "BurnedInAnnotation": "NO",
}
HEAT = np.eye(4, dtype=np.float32)


def source(**attributes: Any) -> DicomSource:
    return read_source(dicom(image(0), **{**STUDY, **attributes}))


def screened(**changes: Any) -> ScreenAnswer:
    return ScreenAnswer.model_validate_json(json.dumps({**schema._SCREENED, **changes}))


def not_screenable() -> ScreenAnswer:
    return ScreenAnswer.model_validate_json(json.dumps(schema._NOT_SCREENABLE))


def with_heatmap() -> ScreenAnswer:
    pictures = explanation("Covid19", grey_png(image(0)), overlay_png(HEAT), None)
    return screened().model_copy(update={"explanation": pictures})


def read_back(document: Dataset) -> Dataset:
    return dcmread(io.BytesIO(encode_document(document)))


def report_of(document: Dataset) -> MeasurementReport:
    return srread(io.BytesIO(encode_document(document))).content


def checked(program: str, package: str, path: Path) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed (Debian's package {package})")
    run = subprocess.run([found, str(path)], capture_output=True, text=True, timeout=120, check=False)
    return run.stdout + run.stderr


PIXELMED = Path("/usr/share/java/pixelmed.jar")
NO_LIMIT = [f"-Djdk.xml.xpath{name}=0" for name in ("TotalOpLimit", "ExprOpLimit", "ExprGrpLimit")]
"""Java's own limits of a stylesheet: the validator's, which has all templates of the standard, is beyond them."""


def template_faults(document: Dataset, file: Path) -> list[str]:
    """What PixelMed's validator finds wrong with a TID 1500 document, which is written to `file`."""
    if shutil.which("java") is None or not PIXELMED.exists():
        pytest.skip("java or PixelMed is not installed (Debian's packages default-jre-headless, libpixelmed-java)")
    file.write_bytes(encode_document(document))
    command = [
        "java",
        "-XX:TieredStopAtLevel=1",
        *NO_LIMIT,
        "-cp",
        str(PIXELMED),
        "com.pixelmed.validate.DicomSRValidator",
        str(file),
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    said = run.stdout + run.stderr
    assert "Found Root Template TID_1500 (MeasurementReport)" in said, said
    assert "IOD validation complete" in said, said
    return [line for line in said.splitlines() if line.startswith("Error")]
