from pathlib import Path

import pytest

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import SourceError
from cxr_platform.intake.layouts.collection import Collection
from cxr_platform.intake.layouts.listed_files import ListedFiles
from cxr_platform.intake.layouts.tables import MetadataTable, listed

FOLDER = Path("/images/a")


def listed_files(*names: str, path: Path = FOLDER / "t.csv", named: bool = False) -> ListedFiles:
    """The files 1.png, 2.png and t.csv of a collection, whose table has a row for each of `names`, with a patient."""
    table = MetadataTable(path, lambda _: (None, None))
    for name in names:
        table.add(name, listed({"patient": f"of {name}"}, "", None, None, SelectionConfig()))
    collection = Collection("a", FOLDER, ("1.png", "2.png", "t.csv"), table=path if named else None)
    return ListedFiles.of(collection, path, table)


def read(found: ListedFiles) -> tuple[list[str], list[str], int]:
    collection = Collection("a", FOLDER, tuple(found.files))
    reading = found.reading(lambda file: collection.candidate(file, **found.stated(file)))
    return [candidate.source_path for candidate in reading.candidates], reading.tables, reading.missing_files


def test_files_with_and_without_a_row_are_images_and_the_table_is_none() -> None:
    found = listed_files("1.png", "9.png")
    assert found.stated("1.png")["patient"] == "of 1.png"
    assert found.stated("2.png") == {}
    assert read(found) == (["a/1.png", "a/2.png"], ["a/t.csv"], 1)


def test_a_table_elsewhere_is_named_by_its_file() -> None:
    assert read(listed_files("1.png", path=Path("/tables/t2.csv")))[1] == ["t2.csv"]


def test_a_table_that_lists_no_file_is_a_file_like_others_unless_it_was_named() -> None:
    assert read(listed_files("9.png")) == (["a/1.png", "a/2.png", "a/t.csv"], [], 0)
    with pytest.raises(SourceError, match=r"t\.csv: expected its images in .*take `table` out"):
        listed_files("9.png", named=True)
