import json
import os
import shutil
from pathlib import Path

import pytest

from cxr_platform.errors import BundleError, RegistryError, StorageError
from cxr_platform.registry import store
from cxr_platform.registry.bundle import MEMBERS, ONNX, Bundle
from cxr_platform.registry.promotion import promote
from cxr_platform.registry.store import Registry
from tests.registry.builders import filler, make_bundle, make_registry, write_members
from tests.registry.processes import exit_codes


def names(root: Path) -> list[str]:
    """What stands in the registry, apart from its two lock files."""
    return sorted(path.name for path in root.iterdir() if not path.name.endswith("lock"))


def add_several(root: Path, count: int) -> None:
    for _ in range(count):
        Registry(root).add(filler())


def die_while_filling(root: Path) -> None:
    def fill(folder: Path, version: str) -> Bundle:
        write_members(folder)
        os._exit(9)

    Registry(root).add(fill)


def die_before_registry_json_is_written(root: Path) -> None:
    Registry.write = lambda *_: os._exit(9)  # type: ignore[assignment, method-assign, misc]
    Registry(root).add(filler())


def test_a_registry_that_another_process_changes_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CHANGE_SECONDS", 0.1)
    registry = make_registry(tmp_path)
    message = rf"work on the registry {registry.root} within 0\.1 s.*run the same command again"
    with registry.change(), pytest.raises(StorageError, match=message), registry.change():
        pass


def test_a_version_is_added_and_opened(tmp_path):
    registry = Registry(tmp_path / "registry")

    assert registry.add(filler(accuracy=81.0)) == "v1"
    folder, bundle = registry.open("v1")

    assert folder == tmp_path / "registry" / "v1"
    assert bundle.metrics["accuracy_7_class"].value == 81.0
    assert registry.versions() == ("v1",)
    assert registry.champion() is None
    assert names(registry.root) == ["registry.json", "registry.json.previous", "v1"]
    assert registry.state().versions["v1"].created == bundle.created


def test_a_folder_that_does_not_exist_is_an_empty_registry(tmp_path):
    registry = Registry(tmp_path / "absent")

    assert registry.versions() == ()
    assert registry.champion() is None
    with pytest.raises(RegistryError, match="make champion"):
        registry.open()
    assert not registry.root.exists()


def test_without_a_promotion_there_is_no_champion_to_open(tmp_path):
    with pytest.raises(RegistryError, match="cxr registry promote"):
        make_registry(tmp_path, 80).open()


@pytest.mark.parametrize("version", ["v9", "../v1", "v01", "", "V1", "v1/"])
def test_an_unknown_version_is_an_error_with_the_known_ones(tmp_path, version):
    with pytest.raises(RegistryError, match="out of v1 in"):
        make_registry(tmp_path, 80).open(version)


def test_an_error_while_filling_leaves_no_version(tmp_path):
    registry = make_registry(tmp_path, 80)
    before = registry.state()

    def fill(folder: Path, version: str) -> Bundle:
        write_members(folder)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        registry.add(fill)
    assert registry.state() == before
    assert names(tmp_path) == ["registry.json", "registry.json.previous", "v1"]


@pytest.mark.parametrize("fault", ["member", "further", "version"])
def test_an_incomplete_bundle_is_not_added(tmp_path, fault):
    registry = Registry(tmp_path)

    def fill(folder: Path, version: str) -> Bundle:
        write_members(folder)
        if fault == "member":
            (folder / ONNX).unlink()
        if fault == "further":
            (folder / "notes.txt").touch()
        return make_bundle("v7" if fault == "version" else version)

    with pytest.raises(RegistryError):
        registry.add(fill)
    assert registry.versions() == ()
    assert names(tmp_path) == ["registry.json"]
    assert registry.add(filler()) == "v1"


def test_an_error_while_writing_registry_json_removes_the_folder(tmp_path, monkeypatch):
    registry = make_registry(tmp_path, 80)

    def full(*_: object) -> None:
        raise StorageError("Expected room.")

    monkeypatch.setattr(store, "write_atomically", full)
    with pytest.raises(StorageError):
        registry.add(filler())
    monkeypatch.undo()

    assert names(tmp_path) == ["registry.json", "registry.json.previous", "v1"]
    assert registry.versions() == ("v1",)


def test_the_next_add_removes_what_a_crash_while_filling_left(tmp_path):
    assert exit_codes(die_while_filling, [(tmp_path,)]) == [9]
    assert any(name.startswith(store.ADDING) for name in names(tmp_path))
    assert Registry(tmp_path).versions() == ()

    assert Registry(tmp_path).add(filler()) == "v1"
    assert names(tmp_path) == ["registry.json", "registry.json.previous", "v1"]


def test_a_crash_before_registry_json_is_written_leaves_no_version_and_skips_its_number(tmp_path):
    registry = make_registry(tmp_path, 80)
    assert exit_codes(die_before_registry_json_is_written, [(tmp_path,)]) == [9]

    assert registry.versions() == ("v1",)
    with pytest.raises(RegistryError):
        registry.open("v2")
    assert [(c.name, c.problem is None) for c in registry.verify()] == [("v1", True), ("v2", False)]
    assert registry.add(filler()) == "v3"


def test_the_number_of_a_deleted_version_is_not_used_again(tmp_path):
    registry = make_registry(tmp_path, 80, 81)
    shutil.rmtree(tmp_path / "v2")

    assert registry.add(filler()) == "v3"
    assert registry.versions() == ("v1", "v2", "v3")
    with pytest.raises(BundleError, match="v2"):
        registry.open("v2")


def test_the_tenth_version_follows_the_ninth(tmp_path):
    assert make_registry(tmp_path, *range(70, 81)).versions()[-2:] == ("v10", "v11")


def test_two_processes_add_one_after_the_other(tmp_path):
    assert exit_codes(add_several, [(tmp_path, 5)] * 2) == [0, 0]
    registry = Registry(tmp_path)
    assert registry.versions() == tuple(f"v{i}" for i in range(1, 11))
    assert all(check.problem is None for check in registry.verify())


def test_a_promotion_does_not_wait_while_a_version_is_being_added(tmp_path):
    registry = make_registry(tmp_path, 80)

    def fill(folder: Path, version: str) -> Bundle:
        promote(registry, "v1")
        return filler()(folder, version)

    assert registry.add(fill) == "v2"
    assert registry.champion() == "v1"


def test_the_description_is_compared_with_its_checksum_in_registry_json(tmp_path):
    registry = make_registry(tmp_path, 80)
    description = tmp_path / "v1" / "bundle.json"
    tree = json.loads(description.read_text())
    tree["temperature"] = 3.0  # a bundle that is right in itself
    description.write_text(json.dumps(tree))

    with pytest.raises(BundleError, match=r"bundle\.json as it was made"):
        registry.open("v1")


def test_a_version_replaced_by_another_is_an_error(tmp_path):
    registry = make_registry(tmp_path, 80, 81)
    shutil.rmtree(tmp_path / "v2")
    shutil.copytree(tmp_path / "v1", tmp_path / "v2")

    with pytest.raises(BundleError, match="as it was made"):
        registry.open("v2")


def test_a_version_that_is_a_link_is_an_error(tmp_path):
    registry = make_registry(tmp_path / "registry", 80)
    (tmp_path / "registry" / "v1").rename(tmp_path / "elsewhere")
    (tmp_path / "registry" / "v1").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(RegistryError, match="a symbolic link"):
        registry.open("v1")


def test_a_registry_json_that_is_a_link_is_an_error(tmp_path):
    registry = make_registry(tmp_path / "registry", 80)
    state = tmp_path / "registry" / "registry.json"
    state.rename(tmp_path / "elsewhere")
    state.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(RegistryError, match="a symbolic link"):
        registry.versions()


def test_a_lost_registry_json_is_an_error(tmp_path):
    registry = make_registry(tmp_path, 80)
    (tmp_path / "registry.json").unlink()

    with pytest.raises(RegistryError, match=r"beside v1\. Received: no such file\. Put registry\.json\.previous"):
        registry.champion()
    with pytest.raises(RegistryError):
        registry.add(filler())


def test_a_truncated_registry_json_is_restored_as_advised(tmp_path):
    registry = make_registry(tmp_path, 80, 81)
    state = tmp_path / "registry.json"
    state.write_bytes(state.read_bytes()[:-30])

    with pytest.raises(RegistryError, match=r"Put registry\.json\.previous"):
        promote(registry, "v1")
    (tmp_path / "registry.json.previous").replace(state)

    promote(registry, "v1")
    assert registry.champion() == "v1"


def test_verify_names_every_changed_version(tmp_path):
    registry = make_registry(tmp_path, 80, 81, 82, 83)
    (tmp_path / "v2" / ONNX).write_bytes(b"x")
    shutil.rmtree(tmp_path / "v3")
    problems = {check.name: check.problem for check in registry.verify()}

    assert problems["v1"] is None
    assert "model.onnx" in str(problems["v2"])
    assert "v3" in str(problems["v3"])
    assert problems["v4"] is None
    assert [check.name for check in registry.verify("v4")] == ["v4"]
    with pytest.raises(RegistryError, match="out of"):
        registry.verify("v5")


def test_verify_takes_the_alias(tmp_path):
    registry = make_registry(tmp_path, 80)
    promote(registry, "v1")

    assert [check.name for check in registry.verify("champion")] == ["v1"]


def test_reading_a_registry_writes_nothing(tmp_path):
    registry = make_registry(tmp_path, 80)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    registry.open("v1")
    registry.verify()

    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_bundle_has_no_other_files_than_the_format_names(tmp_path):
    make_registry(tmp_path, 80)
    assert names(tmp_path / "v1") == sorted([*MEMBERS, "bundle.json"])
