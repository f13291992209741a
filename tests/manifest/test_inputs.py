import hashlib
import json
from pathlib import Path

from cxr_platform.intake.overrule import Overrule
from cxr_platform.intake.sources import Inventory
from cxr_platform.manifest.build import build_manifest
from cxr_platform.manifest.inputs import differing_settings, input_hashes, is_current
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


def test_sources_of_one_origin_share_patients_which_is_more_than_an_origin_of_each() -> None:
    alone, second = input_hashes(origins(a="NIH"), Overrule()), input_hashes(origins(a="NIH", b="Ohio"), Overrule())
    shared = input_hashes(origins(a="NIH", b="NIH"), Overrule())
    # As older platforms wrote them, which knew a patient in one source only: only the last must be built again.
    written = (["a", "NIH"],), (["a", "NIH"], ["b", "Ohio"]), (["a", "NIH"], ["b", "NIH"])
    before = [hashlib.sha256("".join(map(json.dumps, lines)).encode()).hexdigest() for lines in written]
    now = [hashes["files_hash"] for hashes in (alone, second, shared)]
    assert [one == other for one, other in zip(now, before, strict=True)] == [True, True, False]


def origins(**stated: str) -> Inventory:
    return Inventory([], origins=stated)
