"""A folder of new images beside a manifest, both small and decoded without Ray."""

from pathlib import Path

import numpy as np
import pytest

from cxr_platform.errors import NotPossible, SourceError
from cxr_platform.evidence.image_folder import ImageFolder, read_image_folder
from cxr_platform.evidence.study_overlap import IN_STUDY
from cxr_platform.manifest.build import build_manifest
from cxr_platform.manifest.store import Manifest
from cxr_platform.progress import NoProgress
from tests.intake.files import dicom
from tests.manifest.builders import brighter_copy, fill_cache, image, profile, save, write_collection


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_collection(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def manifest(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    destination = tmp_path_factory.mktemp("built") / "manifest"
    fill_cache(study, destination, profile())
    return build_manifest(study, destination, profile())


@pytest.fixture
def new_images(tmp_path: Path) -> Path:
    """Two new images of one class and one of another, and a text."""
    data = tmp_path / "hospital"
    save(image(500), data / "Covid19" / "a.png")
    save(image(501), data / "Normal" / "b.png")
    save(image(502), data / "Normal" / "c.png")
    (data / "Normal" / "letter.png").write_text("not an image\n")
    return data


def read(data: Path, manifest: Manifest, *, unlabelled: bool = False) -> ImageFolder:
    work = data.parent / "out"
    fill_cache(data, work, profile())
    return read_image_folder(data, manifest, profile(), work, NoProgress(), unlabelled=unlabelled)


def test_usable_images_have_class_and_pixels_and_the_others_a_reason(new_images: Path, manifest: Manifest) -> None:
    folder = read(new_images, manifest)
    assert folder.images.facts["label"].to_pylist() == ["Covid19", "Normal", "Normal"]
    assert set(folder.images.facts["source"].to_pylist()) == {"hospital"}
    paths = ["hospital/Covid19/a.png", "hospital/Normal/b.png", "hospital/Normal/c.png"]
    assert folder.images.facts["source_path"].to_pylist() == paths
    assert folder.images.pixels.shape == (3, 200, 200)
    assert np.abs(folder.images.pixels[0].astype(int) - image(500)).mean() < 20
    assert {path: refusal.reason for path, refusal in folder.excluded.items()} == {
        "hospital/Normal/letter.png": "not-an-image"
    }
    assert not folder.synthetic


def test_images_of_the_study_are_excluded_also_under_another_name(
    new_images: Path, manifest: Manifest, study: Path
) -> None:
    (new_images / "Normal" / "again.png").write_bytes((study / "classes" / "Edema" / "image-0.png").read_bytes())
    save(image(1), new_images / "Covid19" / "packed-otherwise.png", compress_level=1)
    folder = read(new_images, manifest)
    assert len(folder.images.facts) == 3
    assert folder.reasons[IN_STUDY] == 2
    assert folder.excluded["hospital/Normal/again.png"].reason == IN_STUDY


def test_a_folder_with_only_images_of_the_study_is_an_error(study: Path, manifest: Manifest, tmp_path: Path) -> None:
    for number in range(3):
        data = tmp_path / "copy" / "Edema"
        data.mkdir(parents=True, exist_ok=True)
        (data / f"{number}.png").write_bytes((study / "classes" / "Edema" / f"image-{number}.png").read_bytes())
    with pytest.raises(NotPossible, match=r"not in the study\. Received: 3 in-study"):
        read(tmp_path / "copy", manifest).check_images()


def test_images_without_a_class_need_the_option(new_images: Path, manifest: Manifest, tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    save(image(510), loose / "one.png")
    with pytest.raises(SourceError, match="For images without a class use --unlabelled"):
        read_image_folder(loose, manifest, profile(), tmp_path / "other", NoProgress())
    folder = read(new_images, manifest, unlabelled=True)
    assert folder.images.facts["label"].to_pylist() == [None] * 3
    with pytest.raises(SourceError, match="Expected a folder of images"):
        read_image_folder(tmp_path / "nowhere", manifest, profile(), tmp_path / "other", NoProgress(), unlabelled=True)


def test_near_copies_are_excluded_with_the_name_of_the_original(new_images: Path, manifest: Manifest) -> None:
    save(brighter_copy(image(1)), new_images / "Normal" / "copy.png")
    refusal = read(new_images, manifest).excluded["hospital/Normal/copy.png"]
    assert refusal.reason == IN_STUDY
    assert refusal.detail == "a copy of classes/Covid19/image-1.png of the study"


def test_images_that_the_studys_manifest_excludes_are_not_scored(new_images: Path, manifest: Manifest) -> None:
    (new_images / "Normal" / "lateral.dcm").write_bytes(dicom(image(520), ViewPosition="LL"))
    (new_images / "Normal" / "hand.dcm").write_bytes(dicom(image(521), BodyPartExamined="HAND"))
    colours = np.dstack([image(522), 255 - image(522), image(523)])
    save(colours, new_images / "Normal" / "colours.png")
    for unlabelled in (False, True):
        folder = read(new_images, manifest, unlabelled=unlabelled)
        assert len(folder.images.facts) == 3
        reasons = {Path(path).name: refusal.reason for path, refusal in folder.excluded.items()}
        reasons.pop("letter.png")
        assert reasons == {"lateral.dcm": "view", "hand.dcm": "body-part", "colours.png": "colour"}


def test_images_that_left_the_folder_are_removed_from_the_cache(new_images: Path, manifest: Manifest) -> None:
    read(new_images, manifest)
    (before,) = (new_images.parent / "out.cache").rglob("*.parquet")
    for file in new_images.rglob("*.png"):
        file.unlink()
    save(image(503), new_images / "Normal" / "d.png")
    read(new_images, manifest)
    (after,) = (new_images.parent / "out.cache").rglob("*.parquet")
    assert after != before
