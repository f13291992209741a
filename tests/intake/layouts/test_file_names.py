import unicodedata

import pytest

from cxr_platform.intake.layouts.file_names import FileNames

COMPOSED = "Lorent\u00e9.png"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a.png", "images/a.png"),
        ("a", "images/a.png"),
        ("a.jpg", "images/a.png"),
        ("A.PNG", "images/a.png"),
        ("images\\a.png", "images/a.png"),
        ("./images/a.png", "images/a.png"),
        ("Collection-v1/images/a.jpg", "images/a.png"),
        ("images/a.png", "2020/images/a.png"),
        (unicodedata.normalize("NFD", COMPOSED), COMPOSED),
        (COMPOSED, unicodedata.normalize("NFD", COMPOSED)),
    ],
)
def test_a_name_finds_its_file(name: str, file: str) -> None:
    assert FileNames([file, "images/b.png"]).find(name) == [file]


def test_the_file_that_is_spelled_as_in_the_table_is_preferred() -> None:
    files = FileNames(["a.jpg", "a.png"])
    assert files.find("a.png") == ["a.png"]
    assert files.find("a") == ["a.jpg", "a.png"]


def test_a_name_with_other_folders_finds_nothing() -> None:
    assert FileNames(["test/a.png"]).find("train/a.png") == []
