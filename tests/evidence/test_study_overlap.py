"""Overlap of a folder with the study of a small manifest, decoded without Ray."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cxr_platform.evidence import study_overlap
from cxr_platform.evidence.study_overlap import changed_copies, images_of_study, near_copies
from cxr_platform.intake.candidate import Refusal
from cxr_platform.intake.letterbox import letterbox
from cxr_platform.labels import CLASSES
from cxr_platform.manifest.build import build_manifest
from cxr_platform.manifest.cache import DecodedCache, PixelReader
from cxr_platform.manifest.patient_ids import header_pseudonym, key_space, patient_salt
from cxr_platform.manifest.patients import image_patients
from cxr_platform.manifest.records import SelectedImage
from cxr_platform.manifest.selection import Selection
from cxr_platform.manifest.store import Manifest
from cxr_platform.progress import NoProgress
from tests.manifest.builders import brighter_copy, candidate, fill_cache, image, profile, save, store

COPIED = image(10 * CLASSES.index("Fibrosis") + 2)
ABROAD = image(700)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Four images a class, and an external source of three."""
    data, destination = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("built") / "manifest"
    for number, label in enumerate(CLASSES):
        for i in range(4):
            save(image(10 * number + i), data / "classes" / label / f"image-{i}.png")
    for number in range(3):
        save(image(700 + number), data / "abroad" / "Normal" / f"image-{number}.png")
    fill_cache(data, destination, profile())
    return build_manifest(data, destination, profile(), NoProgress(), external=["abroad"])


@pytest.fixture
def cache(tmp_path: Path) -> DecodedCache:
    return DecodedCache(tmp_path, "key")


def take(cache: DecodedCache, images: dict[str, np.ndarray]) -> list[SelectedImage]:
    return [SelectedImage(candidate(record.key.source_path), record) for record in store(cache, images)]


def overlap(
    cache: DecodedCache, manifest: Manifest, taken: list[SelectedImage], groups: list[str]
) -> dict[int, Refusal]:
    choice = Selection(taken, [None] * len(taken), groups, [], [])
    return images_of_study(choice, PixelReader(cache, 200), manifest)


def of_patients(
    cache: DecodedCache, manifest: Manifest, patients: dict[str, str], origins: dict[str, str]
) -> list[str]:
    """Source paths of those of `patients`, path → key of a table, that overlap with the study."""
    records = store(cache, {path: image(500 + number) for number, path in enumerate(patients)})
    taken = [
        SelectedImage(candidate(path, patient=patients[path]), record)
        for path, record in zip(patients, records, strict=True)
    ]
    known = image_patients(taken, patient_salt(), origins).patients
    choice = Selection(taken, [known[i.image_id] for i in taken], list(known), [], [])
    refusals = images_of_study(choice, PixelReader(cache, 200), manifest, origins)
    assert {refusal.detail for refusal in refusals.values()} <= {"of a patient of the study"}
    return [taken[row].candidate.source_path for row in sorted(refusals)]


def test_a_brighter_or_shifted_copy_of_an_image_of_the_study_is_named(cache: DecodedCache, manifest: Manifest) -> None:
    shifted = np.pad(COPIED, ((0, 2), (0, 2)), mode="edge")[2:, 2:]
    taken = take(cache, {"h/new.png": image(500), "h/brighter.png": brighter_copy(COPIED), "h/shifted.png": shifted})
    refusals = overlap(cache, manifest, taken, ["a", "b", "c"])
    assert sorted(refusals) == [1, 2]
    assert refusals[1] == Refusal("in-study", "a copy of classes/Fibrosis/image-2.png of the study")


def test_crops_and_mirrored_copies_of_images_of_the_study_are_named(cache: DecodedCache, manifest: Manifest) -> None:
    pictures = {"crop": COPIED[40:-30, 30:-30], "mirrored": COPIED[:, ::-1].copy(), "new": image(500)}
    taken = take(cache, {f"h/{name}.png": letterbox(pixels, 200).pixels for name, pixels in pictures.items()})
    refusals = overlap(cache, manifest, taken, ["a", "b", "c"])
    assert {row: refusal.detail for row, refusal in refusals.items()} == dict.fromkeys(
        (0, 1), "a crop or another changed copy of classes/Fibrosis/image-2.png of the study"
    )


def test_an_image_of_which_the_study_has_a_crop_is_named(cache: DecodedCache, tmp_path: Path) -> None:
    data, destination = tmp_path / "data", tmp_path / "manifest"
    for number, label in enumerate(CLASSES):
        for i in range(4):
            save(image(10 * number + i)[40:-30, 30:-30], data / "classes" / label / f"{i}.png")
    fill_cache(data, destination, profile())
    cropped = build_manifest(data, destination, profile(), NoProgress())
    taken = take(cache, {"h/whole.png": COPIED, "h/new.png": image(500)})
    assert changed_copies(taken, PixelReader(cache, 200), cropped, NoProgress()) == {0: "classes/Fibrosis/2.png"}


def test_crops_are_not_sought_where_the_manifest_did_not(cache: DecodedCache, manifest: Manifest) -> None:
    taken = take(cache, {"h/crop.png": letterbox(COPIED[40:-30, 30:-30], 200).pixels})
    config = manifest.info.config
    config = replace(config, selection=replace(config.selection, find_crops=False))
    without = replace(manifest, info=manifest.info.model_copy(update={"config": config}))
    assert overlap(cache, manifest, taken, ["a"])
    assert not overlap(cache, without, taken, ["a"])


def test_images_with_similar_hashes_only_are_not_copies(cache: DecodedCache, manifest: Manifest) -> None:
    taken = take(cache, {"h/new.png": image(500), "h/copy.png": brighter_copy(COPIED)})
    every = 64  # bits: the hash nominates every pair
    assert near_copies(taken, PixelReader(cache, 200), manifest, every) == {1: "classes/Fibrosis/image-2.png"}


def test_external_images_of_the_manifest_are_not_in_the_study(cache: DecodedCache, manifest: Manifest) -> None:
    assert (
        overlap(cache, manifest, take(cache, {"h/1.png": ABROAD, "h/2.png": brighter_copy(ABROAD)}), ["a", "b"]) == {}
    )


def test_an_image_of_the_study_excludes_its_group(cache: DecodedCache, manifest: Manifest) -> None:
    taken = take(cache, {"h/same.png": COPIED, "h/later.png": image(500), "h/other.png": image(501)})
    refusals = overlap(cache, manifest, taken, ["a", "a", "b"])
    assert refusals[0].detail == "an image of the study, which its networks were trained on"
    assert refusals[1] == Refusal("in-study", "in one group with h/same.png, which is in the study")
    assert sorted(refusals) == [0, 1]


@pytest.fixture(scope="module")
def by_source(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Four images a class of a patient each, `P00` to `P63`, of the source `keys` of which no origin is stated."""
    data, destination = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("built") / "manifest"
    for number, label in enumerate(CLASSES):
        for i in range(4):
            save(image(10 * number + i), data / "keys" / label / f"P{number}{i}" / "1.png")
    fill_cache(data, destination, profile())
    return build_manifest(data, destination, profile())


NEW = {"keys/0.png": "P00", "other/1.png": "P01", "third/2.png": "P02", "other/3.png": "P99"}


def test_a_patient_of_a_source_without_an_origin_is_known_under_its_name_only(
    cache: DecodedCache, by_source: Manifest
) -> None:
    assert of_patients(cache, by_source, NEW, {}) == ["keys/0.png"]
    assert of_patients(cache, by_source, NEW, {"keys": "Ohio", "other": "Ohio"}) == ["keys/0.png"]


def test_a_manifest_of_an_older_platform_which_has_patients_by_source_knows_those_of_the_origin_too(
    cache: DecodedCache, by_source: Manifest
) -> None:
    older = replace(by_source, info=by_source.info.model_copy(update={"origins": {"keys": "Ohio"}}))
    assert of_patients(cache, older, NEW, {"other": "Ohio"}) == ["keys/0.png", "other/1.png"]


def test_a_patient_of_a_source_is_known_where_only_the_manifest_states_its_origin(
    cache: DecodedCache, tmp_path: Path
) -> None:
    data, destination = tmp_path / "data", tmp_path / "manifest"
    for number, label in enumerate(CLASSES):
        for i in range(4):
            save(image(10 * number + i), data / "keys" / label / f"P{number}{i}" / "1.png")
    (data / "sources.toml").write_text('[sources.keys]\npath = "keys"\norigin = "Ohio"\n')
    fill_cache(data, destination, profile())
    stated = build_manifest(data, destination, profile())
    assert of_patients(cache, stated, NEW, {}) == ["keys/0.png"]
    assert of_patients(cache, stated, NEW, {"other": "Ohio"}) == ["keys/0.png", "other/1.png"]


def test_a_patient_whom_the_study_knows_by_the_header_is_found_in_a_folder_that_has_a_key_too(
    cache: DecodedCache, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    salt = patient_salt()
    anywhere = header_pseudonym(salt, "", "H1")
    hashed = header_pseudonym(salt, key_space("export", {"export": "Ohio"}), anywhere)
    known = {"patient_id": {hashed}, "file_sha256": set(), "pixel_sha256": set()}
    monkeypatch.setattr(study_overlap, "_known", lambda _: known)
    (record,) = store(cache, {"tab/a.png": image(500)})
    assert record.facts is not None
    facts = replace(record.facts, header_key=anywhere)
    taken = SelectedImage(candidate("tab/a.png", patient="P1"), record._replace(facts=facts))
    patients = image_patients([taken], salt, {"tab": "Ohio"}).patients
    choice = Selection([taken], [patients[taken.image_id]], ["a"], [], [])
    refusals = images_of_study(choice, PixelReader(cache, 200), manifest, {"tab": "Ohio"})
    assert refusals == {0: Refusal("in-study", "of a patient of the study")}
    assert images_of_study(choice, PixelReader(cache, 200), manifest, {"tab": "Utah"}) == {}
