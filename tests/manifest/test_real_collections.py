"""The manifest of the real X-rays beside the checkout, with files that are no images and with DICOM among them."""

import os
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from cxr_platform.config import load_profile
from cxr_platform.intake.candidate import UNFIT
from cxr_platform.manifest.build import build_manifest
from cxr_platform.manifest.store import Manifest

pytestmark = [pytest.mark.real, pytest.mark.ray]

TAKEN_BY_TABLE = {
    "covid-chestxray-dataset": 381 + 17,
    "chest_xray": 1335 + 1033,
    "nih-chestxray14": 115 + 224 + 74 + 54,
    "pleural-effusion-detection": 170 + 10,
    "actualmed-covid-chestxray-dataset": 26 + 18,
}
"""Images with one of the seven classes per source, as counted in the collections' own description."""

OTHER_FINDINGS = {"covid-chestxray-dataset": 71}
"""Images of sources with Covid19 whose finding is none of the seven classes: SARS, pneumocystis, streptococcus, …"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> Path:
    """A folder with a sources.toml: the five collections, and a class folder of DICOM and of what is no image."""
    folder = tmp_path_factory.mktemp("collections")
    mixed = folder / "mixed" / "normal"
    mixed.mkdir(parents=True)
    for file in (*(real_data / "bad").iterdir(), *(real_data / "originals" / "dicom").iterdir()):
        (mixed / file.name).write_bytes(file.read_bytes())
    tables = [f'[sources.{name}]\npath = "{real_data / "sources" / name}"\n' for name in TAKEN_BY_TABLE]
    (folder / "sources.toml").write_text("".join([*tables, '[sources.mixed]\npath = "mixed"\n']))
    return folder


@pytest.fixture(scope="module")
def manifest(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return build_manifest(data, tmp_path_factory.mktemp("real") / "manifest", load_profile("quick"))


@pytest.fixture(scope="module")
def excluded(manifest: Manifest) -> dict[str, Counter[str]]:
    """Source → reason → number of files."""
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for row in manifest.excluded().to_pylist():
        reasons[row["source_path"].split("/")[0]][row["reason"]] += 1
    return reasons


def test_every_file_is_selected_or_excluded_with_a_reason(data: Path, real_data: Path, manifest: Manifest) -> None:
    files = sum(len(files) for _, _, files in os.walk(data)) + sum(
        len(files) for _, _, files in os.walk(real_data / "sources")
    )
    own_tables = 3 + 1  # two metadata.csv, one Data_Entry, and the sources.toml
    assert manifest.table(["image_id"]).num_rows + manifest.excluded().num_rows == files - own_tables


@pytest.mark.parametrize("source", TAKEN_BY_TABLE)
def test_the_images_of_a_source_are_those_of_its_description_less_the_judged_ones(
    source: str, manifest: Manifest, excluded: dict[str, Counter[str]]
) -> None:
    taken = manifest.table(["source"])["source"].to_pylist().count(source)
    expected = TAKEN_BY_TABLE[source] + OTHER_FINDINGS.get(source, 0)
    assert taken + sum(excluded[source][reason] for reason in UNFIT) == expected


def test_contrast_images_are_of_the_source_that_has_other_findings(manifest: Manifest) -> None:
    rows = [row for row in manifest.table(["source", "role", "label", "finding"]).to_pylist() if row["role"] != "study"]
    assert 45 < len(rows) <= sum(OTHER_FINDINGS.values())
    assert {(row["role"], row["source"], row["label"]) for row in rows} == {("contrast", *OTHER_FINDINGS, None)}
    assert {"SARS", "Pneumocystis", "Streptococcus"} <= {row["finding"] for row in rows}
    assert manifest.info.contrast == {"covid-chestxray-dataset": len(rows)}
    assert manifest.info.origins["pleural-effusion-detection"] == manifest.info.origins["nih-chestxray14"] == "NIH"


def test_files_that_are_no_images_are_excluded_and_every_dicom_file_decodes(
    real_data: Path, manifest: Manifest, excluded: dict[str, Counter[str]]
) -> None:
    assert excluded["mixed"]["not-an-image"] == len(list((real_data / "bad").iterdir()))
    paths = [p for p in manifest.table(["source_path"])["source_path"].to_pylist() if p.startswith("mixed/")]
    turned_negative = excluded["mixed"]["not-upright"]  # the made-up MONOCHROME1 file is a negative once inverted
    assert len(paths) + turned_negative == 8
    assert turned_negative <= 1


def test_no_patient_and_no_copy_is_in_two_grouped_folds(manifest: Manifest) -> None:
    columns = ["source", "patient_id", "group_id", "file_sha256", "pixel_sha256", "fold_grouped"]
    table = manifest.table(columns).to_pylist()
    for key in ("group_id", "file_sha256", "pixel_sha256", "patient_id"):
        folds = defaultdict(set)
        for row in table:
            if row[key] is not None:
                folds[row["source"] if key == "patient_id" else "", row[key]].add(row["fold_grouped"])
        assert {len(folds_of_key) for folds_of_key in folds.values()} == {1}, key


def test_an_image_that_occurs_under_two_patients_is_in_one_group(manifest: Manifest) -> None:
    """Seen by a person: the same exposure, one cropped and with another contrast, with text burnt in."""
    table = manifest.table(["source_path", "group_id"]).to_pylist()
    copies = ("A7E260CE-8A00-4C5F-A7F5-27336527A981.jpeg", "case_76_1-3.png")
    assert len({row["group_id"] for row in table if row["source_path"].endswith(copies)}) == 1
