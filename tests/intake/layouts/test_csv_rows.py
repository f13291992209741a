from pathlib import Path

import pytest

from cxr_platform.errors import SourceError
from cxr_platform.intake.layouts.csv_rows import MetadataRow, cell, read_header, read_rows


def saved(folder: Path, content: str | bytes) -> Path:
    file = folder / "labels.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def rows(folder: Path, content: str | bytes) -> list[MetadataRow]:
    return list(read_rows(saved(folder, content), [("label", "finding")]))


@pytest.mark.parametrize(
    "content",
    [
        "file;label;sex\nmu\u00f1oz.png;Edema;F\n".encode("latin-1"),
        "\ufefffile\tlabel\tsex\nmu\u00f1oz.png\tEdema\tF\n".encode(),
        "file|label|sex\nmu\u00f1oz.png|Edema|F\n".encode(),
        "file,label,sex\nmu\u00f1oz.png,Edema,F\n".encode("utf-16"),
    ],
)
def test_delimiters_and_encodings(tmp_path: Path, content: bytes) -> None:
    assert rows(tmp_path, content) == [{"file": "mu\u00f1oz.png", "label": "Edema", "sex": "F"}]


def test_values_are_stripped_and_rows_without_any_are_left_out(tmp_path: Path) -> None:
    content = " File , Label,Patient Age\n a.png ,Edema\n\n,,\nb.png,Mass,7\n"
    assert read_header(saved(tmp_path, content)) == ["File", "Label", "Patient Age"]
    assert rows(tmp_path, content) == [
        {"file": "a.png", "label": "Edema", "patientage": ""},
        {"file": "b.png", "label": "Mass", "patientage": "7"},
    ]


def test_of_two_columns_with_one_key_the_first_value_counts(tmp_path: Path) -> None:
    read = rows(tmp_path, "file,label,patient_id,patientid\na,Edema,7,\nb,Edema,,8\n")
    assert [row["patientid"] for row in read] == ["7", "8"]


def test_a_header_must_have_a_spelling_of_each_required_column(tmp_path: Path) -> None:
    assert rows(tmp_path, "Finding\nEdema\n") == [{"finding": "Edema"}]
    with pytest.raises(SourceError, match=r"labels\.csv: expected the column label or finding.*the columns file, sex"):
        rows(tmp_path, "file,sex\na,F\n")
    with pytest.raises(SourceError, match="Received: no header"):
        rows(tmp_path, "")


def test_the_line_after_which_a_table_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"readable CSV at .*labels\.csv.*after line 2"):
        rows(tmp_path, f"file,label\na,Edema\nb,{'x' * 200_000}\n")
    with pytest.raises(SourceError, match=r"readable CSV at .*absent\.csv.*after line 0"):
        read_header(tmp_path / "absent.csv")


def test_a_cell_is_the_first_spelling_that_is_understood_else_the_first_with_a_value() -> None:
    row = {"label": "", "finding": "?", "findings": "Edema"}
    assert (cell(row, "finding"), cell(row, "finding", str.isalpha)) == ("?", "Edema")
    assert cell(row, "finding", str.isdigit) == "?"
    assert cell(row, "patient") == ""
