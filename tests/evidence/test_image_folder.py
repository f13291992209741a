"""A folder of new images beside a manifest, both small and decoded without Ray."""

from pathlib import Path

import numpy as np
import pytest

from cxr_platform.errors import ConfigError, NotPossible, SourceError
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


def read(
    data: Path | tuple[Path, ...], manifest: Manifest, *, outside: tuple[str, ...] = (), unlabelled: bool = False
) -> ImageFolder:
    first = data if isinstance(data, Path) else data[0]
    work = first.parent / "out"
    fill_cache(data, work, profile(), outside)
    return read_image_folder(data, manifest, profile(), work, NoProgress(), outside=outside, unlabelled=unlabelled)


def stated(folder: ImageFolder) -> dict[str, tuple[str | None, str | None]]:
    """Class and other finding of each image by its path."""
    facts = folder.images.facts.to_pydict()
    return dict(zip(facts["source_path"], zip(facts["label"], facts["finding"], strict=True), strict=True))


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


def test_images_of_another_disease_are_kept_without_class_if_their_folder_is_named(
    new_images: Path, manifest: Manifest, tmp_path: Path
) -> None:
    data = tmp_path / "unseen"
    data.mkdir()
    new_images.rename(data / "hospital")
    save(image(530), data / "tuberculosis" / "1.png")
    assert read(data, manifest).excluded["./tuberculosis/1.png"].reason == "unknown-folder"
    folder = read(data, manifest, outside=("tuberculosis",))
    assert stated(folder) == {
        "hospital/Covid19/a.png": ("Covid19", None),
        "hospital/Normal/b.png": ("Normal", None),
        "hospital/Normal/c.png": ("Normal", None),
        "tuberculosis/1.png": (None, "tuberculosis"),
    }
    with pytest.raises(SourceError, match=r"Expected outside sources out of the folders of .*'silicosis'"):
        read_image_folder(data, manifest, profile(), tmp_path, NoProgress(), outside=("silicosis",))


def test_images_of_another_disease_alone_are_enough(manifest: Manifest, tmp_path: Path) -> None:
    save(image(531), tmp_path / "unseen" / "tuberculosis" / "1.png")
    folder = read(tmp_path / "unseen", manifest, outside=("tuberculosis",))
    assert stated(folder) == {"tuberculosis/1.png": (None, "tuberculosis")}


def test_a_sources_toml_names_images_of_another_disease_and_origins(new_images: Path, manifest: Manifest) -> None:
    save(image(532), new_images / "lungs" / "1.png")
    (new_images / "sources.toml").write_text(
        '[sources.own]\npath = "Normal"\norigin = "Ohio"\n[sources.silicosis]\npath = "lungs"\noutside = true\n'
    )
    folder = read(new_images, manifest)
    assert stated(folder) == {
        "own/b.png": ("Normal", None),
        "own/c.png": ("Normal", None),
        "silicosis/1.png": (None, "lungs"),
    }
    assert folder.origins == {"own": "Ohio"}


def write_table(folder: Path, findings: tuple[str, ...], first: int = 540) -> Path:
    """NIH's layout with one image of each of the findings, of a patient each."""
    lines = ["Image Index,Finding Labels,Patient ID,View Position"]
    for number, finding in enumerate(findings):
        save(image(first + number), folder / "images" / f"{number}.png")
        lines.append(f"{number}.png,{finding},{number + 1},PA")
    (folder / "Data_Entry_2017.csv").write_text("\n".join(lines))
    return folder


def test_what_a_table_states_is_kept_whether_or_not_the_study_takes_it_from_such_a_collection(
    manifest: Manifest, tmp_path: Path
) -> None:
    assert manifest.info.config.selection.classes == "paper"  # Normal and Pneumonia of Kermany alone
    folder = read(write_table(tmp_path / "nih", ("No Finding", "Pneumonia", "Mass|Nodule", "Edema")), manifest)
    assert list(stated(folder).values()) == [
        ("Normal", None), ("Pneumonia", None), (None, "Mass|Nodule"), ("Edema", None),
    ]  # fmt: skip
    assert folder.origins == {"nih": "NIH"}
    assert not folder.excluded


def test_several_folders_are_read_as_for_a_manifest(new_images: Path, manifest: Manifest, tmp_path: Path) -> None:
    for number in range(2):
        save(image(550 + number), tmp_path / "tb" / f"{number}.png")
    folder = read((new_images, tmp_path / "tb"), manifest, outside=("tb",))
    assert set(folder.images.facts["source"].to_pylist()) == {"hospital", "tb"}
    assert [finding for _, finding in stated(folder).values()] == [None, None, None, "tb", "tb"]
    loose = read_image_folder(
        (new_images, tmp_path / "tb"), manifest, profile(), tmp_path / "out", NoProgress(), unlabelled=True
    )
    assert len(loose.images.facts) == 5
    assert {label for label, _ in stated(loose).values()} == {None}
    with pytest.raises(ConfigError, match="given twice"):
        read_image_folder((new_images, new_images), manifest, profile(), tmp_path, NoProgress())


def test_images_are_of_no_known_class_or_of_none_of_the_seven(new_images: Path, manifest: Manifest) -> None:
    with pytest.raises(ConfigError, match="--unlabelled, for images of unknown classes, or --outside"):
        read_image_folder(
            new_images, manifest, profile(), new_images, NoProgress(), outside=("hospital",), unlabelled=True
        )


def test_patients_of_the_study_are_known_in_other_sources_of_their_origin(tmp_path: Path) -> None:
    data, destination = write_collection(tmp_path / "data"), tmp_path / "manifest"
    write_table(data / "nih", ("Edema", "Fibrosis"))
    fill_cache(data, destination, profile())
    manifest = build_manifest(data, destination, profile())
    later = write_table(tmp_path / "later", ("Edema", "Mass", "Emphysema"), first=560)
    folder = read(later, manifest)
    assert list(stated(folder)) == ["later/images/2.png"]
    assert folder.reasons == {IN_STUDY: 2}
    (later / "sources.toml").write_text('[sources.other]\npath = "."\norigin = "Ohio"')
    assert len(read(later, manifest).images.facts) == 3
