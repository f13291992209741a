from pathlib import Path

from cxr_platform.manifest.build import build_manifest
from cxr_platform.manifest.inputs import differing_settings, is_current
from cxr_platform.manifest.store import open_manifest
from tests.manifest.builders import fill_cache, image, profile, save


def test_a_manifest_is_current_for_the_settings_and_files_it_was_built_from(copy: tuple[Path, Path]) -> None:
    data, destination = copy
    manifest = open_manifest(destination)
    assert is_current(manifest, data, profile())
    assert not is_current(manifest, data, profile(seed=7))
    assert not is_current(manifest, data, profile(), external=["cohen"])
    save(image(99), data / "classes" / "Normal" / "new.png")
    assert not is_current(manifest, data, profile())


def test_differing_settings_are_listed_one_by_one(copy: tuple[Path, Path]) -> None:
    manifest = open_manifest(copy[1])
    assert differing_settings(manifest, profile()) == []
    assert differing_settings(manifest, profile(seed=7), ["cohen"]) == [
        f"seed: {profile().seed} → 7",
        "external: cohen was not",
    ]


def test_a_manifest_of_other_images_is_not_current(copy: tuple[Path, Path], tmp_path: Path) -> None:
    data, destination = copy
    (data / "classes" / "Normal").rename(data / "classes" / "Pneumonia-of-another-collection")
    assert not is_current(open_manifest(destination), data, profile())


def test_a_manifest_is_not_current_for_images_of_the_same_names_and_other_sizes(
    copy: tuple[Path, Path],
) -> None:
    data, destination = copy
    save(image(77), data / "classes" / "Normal" / "image-1.png")
    assert not is_current(open_manifest(destination), data, profile())


def test_a_manifest_is_not_current_for_a_changed_table(copy: tuple[Path, Path]) -> None:
    data, destination = copy
    table = data / "cohen" / "metadata.csv"
    table.write_text(table.read_text().replace("p1", "p9"))
    assert not is_current(open_manifest(destination), data, profile())


def test_a_manifest_is_not_current_for_other_allow_and_deny_lists(copy: tuple[Path, Path], tmp_path: Path) -> None:
    data, destination = copy
    lists = tmp_path / "lists.toml"
    lists.write_text('deny = ["classes/Edema/image-0.png"]')
    assert not is_current(open_manifest(destination), data, profile(), overrule=lists)
    fill_cache(data, destination, profile())
    manifest = build_manifest(data, destination, profile(), overrule=lists)
    assert is_current(manifest, data, profile(), overrule=lists)
    assert not is_current(manifest, data, profile())


def test_a_manifest_with_unreadable_images_is_not_current(copy: tuple[Path, Path]) -> None:
    data, destination = copy
    manifest = open_manifest(destination)
    manifest.info.excluded["unreadable"] = 1
    assert not is_current(manifest, data, profile())
