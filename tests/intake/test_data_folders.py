"""Several data folders as one."""

from pathlib import Path

import pytest

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import ConfigError, SourceError, StorageError
from cxr_platform.intake.data_folders import folder_names, merged, read_data_folders
from cxr_platform.intake.sources import Inventory
from tests.intake.layouts.collections_on_disk import plant
from tests.intake.test_sources import COHEN, find
from tests.storage.failing_store import failing_store


def read(*data: Path, outside: tuple[str, ...] = ()) -> Inventory:
    return merged(read_data_folders(data, SelectionConfig(), outside))


def test_one_folder_has_the_names_of_its_own(tmp_path: Path) -> None:
    plant(tmp_path / "cohen", "images/a.jpg", metadata_csv=COHEN)
    assert read(tmp_path) == find(tmp_path)


def test_sources_of_several_folders_begin_with_the_name_of_their_folder(tmp_path: Path) -> None:
    plant(tmp_path / "one/children", "cohen/images/a.jpg", **{"cohen/metadata_csv": COHEN})
    plant(tmp_path / "two/adults", "covid/b.png", "covid/c.png")
    plant(tmp_path / "two", "beside.png")
    plant(tmp_path / "one/children", "notes.txt")
    inventory = read(tmp_path / "two/adults", tmp_path / "one/children")
    assert [(c.source, c.source_path) for c in inventory.candidates] == [
        (".", "./children/notes.txt"),
        ("adults", "adults/covid/b.png"),
        ("adults", "adults/covid/c.png"),
        ("children/cohen", "children/cohen/images/a.jpg"),
    ]
    assert inventory.tables == ["children/cohen/metadata.csv"]
    assert inventory.missing_files == {"adults": 0, "children/cohen": 0}
    assert all(candidate.path.is_file() for candidate in inventory.candidates)


def test_names_are_those_of_one_folder_with_links_to_the_others(tmp_path: Path) -> None:
    for place in ("one/children", "two/adults"):
        plant(tmp_path / place, "cohen/images/a.jpg", **{"cohen/metadata_csv": COHEN})
    together = tmp_path / "all"
    together.mkdir()
    (together / "children").symlink_to(tmp_path / "one/children")
    (together / "adults").symlink_to(tmp_path / "two/adults")
    linked, several = find(together), read(tmp_path / "one/children", tmp_path / "two/adults")
    assert [c.source_path for c in linked.candidates] == [c.source_path for c in several.candidates]
    assert linked.tables == several.tables


def test_folders_of_one_name_are_told_apart_by_the_folders_above() -> None:
    paths = [Path(path) for path in ("/mnt/north/export", "/mnt/south/export", "/mnt/south/other", "/export")]
    assert folder_names(paths) == ("north/export", "south/export", "other", "export")


def test_a_sources_toml_of_each_folder_counts_in_it(tmp_path: Path) -> None:
    plant(tmp_path / "a", "x/1.png", sources_toml='sources.ours = { path = "x", label = "Edema", origin = "We" }')
    plant(tmp_path / "b", "covid/1.png")
    inventory = read(tmp_path / "a", tmp_path / "b")
    assert [(c.source_path, c.label) for c in inventory.candidates] == [
        ("a/ours/1.png", "Edema"),
        ("b/covid/1.png", "Covid19"),
    ]
    assert inventory.origins == {"a/ours": "We"}


def test_a_folder_twice_or_in_another_is_an_error(tmp_path: Path) -> None:
    plant(tmp_path / "a/inner", "covid/1.png")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for second, received in (("a", "a twice"), ("link", "a twice"), ("a/inner", "a and .*inner")):
        with pytest.raises(ConfigError, match=f"given twice or lies in another.*Received: .*{received}"):
            read(tmp_path / "a", tmp_path / second)


def test_a_collection_that_two_folders_would_read_is_an_error(tmp_path: Path) -> None:
    shared = plant(tmp_path / "b", "covid/1.png")
    plant(tmp_path / "a", "edema/1.png", sources_toml=f'sources.ours = {{ path = "{shared}" }}')
    with pytest.raises(SourceError, match="no collection in common"):
        read(tmp_path / "a", tmp_path / "b")


def test_sources_whose_names_would_be_alike_are_an_error(tmp_path: Path) -> None:
    plant(tmp_path / "x/a/b", "covid/1.png")
    plant(tmp_path / "y/b", "covid/1.png")
    plant(tmp_path / "z/a", "own/covid/1.png", sources_toml='sources.b = { path = "own" }')
    with pytest.raises(SourceError, match=r"different names.*a/b twice"):
        read(tmp_path / "x/a/b", tmp_path / "y/b", tmp_path / "z/a")


def test_outside_sources_are_named_with_their_folder(tmp_path: Path) -> None:
    plant(tmp_path / "a", "own/covid/1.png", "tb/1.png")
    plant(tmp_path / "b", "2.png", "3.png")
    inventory = read(tmp_path / "a", tmp_path / "b", outside=("a/tb", "b"))
    assert {c.source: c.role for c in inventory.candidates} == {"a/own": "study", "a/tb": "outside", "b": "outside"}
    with pytest.raises(SourceError, match=r"begin with the name of a data folder: a, b\. Received: 'tb'"):
        read(tmp_path / "a", tmp_path / "b", outside=("tb",))


def test_lists_of_a_folder_name_its_files_as_if_it_were_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        plant(tmp_path / name, "one/covid/1.png", overrule_toml='deny = ["one/covid/1.png"]')
    folders = read_data_folders((tmp_path / "a", tmp_path / "b"), SelectionConfig())
    assert [folder.overrule().deny for folder in folders] == [{"a/one/covid/1.png"}, {"b/one/covid/1.png"}]


def test_the_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    plant(tmp_path / "a", "covid/1.png")
    with pytest.raises(SourceError, match=r"collections at .*/b"):
        read(tmp_path / "a", tmp_path / "b")
    with failing_store(tmp_path.name, errors=0) as store:
        plant(store, "covid/2.png")
        assert len(read(tmp_path / "a", store).candidates) == 2
    with (
        failing_store(tmp_path.name, errors=10**6, error=RuntimeError("no endpoint")) as store,
        pytest.raises(StorageError, match=rf"able to read failing:/*{store.name}\..*no endpoint"),
    ):
        read(tmp_path / "a", store)
