"""Drift of images: low for held-out ones of the same sources, high for inverted and for low-contrast ones."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cxr_platform.config import IntakeConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.images import ChestImage, read_image
from cxr_platform.intake.layouts.phantoms import IMAGES_FOLDER
from cxr_platform.intake.phantoms.collection import write_collection
from cxr_platform.labels import CLASSES, class_index
from cxr_platform.monitoring.drift import PSI_CHANGED, Drift
from tests.monitoring.screened import StandIn, altered

Images = tuple[list[ChestImage], np.ndarray, np.ndarray]
"""Images, positions of their labels, and their patients."""


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Images:
    folder = write_collection(tmp_path_factory.mktemp("phantoms"), per_class=50, seed=5, size=160)
    with (folder / "images.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] in CLASSES and row["view"] in ("PA", "AP")]
    return _read([(folder / IMAGES_FOLDER / row["filename"], row["label"], row["patient_id"]) for row in rows])


@pytest.fixture(scope="module")
def real(real_data: Path) -> Images:
    """Some 400 images of two classes and sources."""
    chest = sorted((real_data / "sources" / "chest_xray" / "train" / "PNEUMONIA").glob("*.jpeg"))
    cohen = real_data / "sources" / "covid-chestxray-dataset"
    with (cohen / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if "COVID-19" in row["finding"] and row["view"] in ("PA", "AP")]
    files = [(cohen / "images" / row["filename"], "Covid19", row["patientid"]) for row in rows]
    files += [(path, "Pneumonia", path.name.split("_")[0]) for path in chest[::3]]
    return _read([file for file in files if file[0].is_file()])


@pytest.fixture(scope="module", params=["phantoms", pytest.param("real", marks=pytest.mark.real)])
def drift_when(request: pytest.FixtureRequest) -> Callable[..., dict[str, Drift]]:
    """Return the drift of the held-out half of the images, after `change`, from the other half."""
    images, labels, groups = request.getfixturevalue(request.param)
    patients = np.unique(groups)
    held = np.isin(groups, np.random.default_rng(0).permutation(patients)[: len(patients) // 2])
    model = StandIn.fit([images[i] for i in np.flatnonzero(~held)], labels[~held], groups[~held])

    def drift(change: Callable[[ChestImage], ChestImage] = lambda image: image) -> dict[str, Drift]:
        return model.drift([change(images[i]) for i in np.flatnonzero(held)])

    return drift


def test_held_out_images_of_the_same_sources_do_not_drift(drift_when: Callable[..., dict[str, Drift]]) -> None:
    drifts = drift_when()
    for name, figures in drifts.items():
        assert figures.psi < PSI_CHANGED, f"{name}: {figures}"
        assert (figures.ks or 0) < 1.95 * np.sqrt(2 / figures.n), (
            f"{name}: {figures}, where chance gives this to 1 in 1,000"
        )


def test_inverted_images_drift(drift_when: Callable[..., dict[str, Drift]]) -> None:
    drifts = drift_when(lambda image: altered(image, -1.0))
    assert drifts["distance"].psi > 4 * PSI_CHANGED
    assert drifts["labels"].psi > PSI_CHANGED or drifts["covid19"].psi > PSI_CHANGED
    assert drifts["padding"].psi < PSI_CHANGED


def test_images_of_low_contrast_drift(drift_when: Callable[..., dict[str, Drift]]) -> None:
    drifts = drift_when(lambda image: altered(image, 0.5))
    assert drifts["contrast"].psi > 4 * PSI_CHANGED
    assert (drifts["contrast"].ks or 0) > 0.5
    assert drifts["brightness"].psi < PSI_CHANGED


def _read(files: list[tuple[Path, str, str]]) -> Images:
    images, labels, groups = [], [], []
    for path, label, patient in files:
        try:
            images.append(read_image(path.read_bytes(), IntakeConfig()))
        except ImageRefused:
            continue
        labels.append(class_index(label))
        groups.append(patient)
    return images, np.array(labels), np.array(groups)
