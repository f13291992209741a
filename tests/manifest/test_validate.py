"""Each test damages a manifest in one way and expects the expectation that covers it to fail."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cxr_platform.errors import ManifestInvalid
from cxr_platform.manifest.schema import pixels_to_arrow, pixels_to_numpy
from cxr_platform.manifest.store import Manifest, open_manifest
from cxr_platform.manifest.validate import validate_manifest

Cells = dict[str, dict[int, object]]
CELLS: Cells = {
    "label": {0: "Edema", 10: "Influenza", 12: None},
    "role": {1: "spare"},
    "image_id": {2: "0" * 15},
    "source_path": {4: "classes/Covid19/image-3.png"},
    "mean": {5: 1.5},
    "fold_paper": {6: 7},
    "width": {7: 0},
}
"""Values that are wrong, by column and row."""


def set_cells(table: pa.Table, cells: Cells) -> pa.Table:
    for column, wrong in cells.items():
        values = table[column].to_pylist()
        for row, value in wrong.items():
            values[row] = value
        table = replace_column(table, column, pa.array(values, table[column].type))
    return table


def replace_column(table: pa.Table, column: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(column), table.field(column), values)


def split_a_group(table: pa.Table) -> pa.Table:
    """Put row 8 into the group of an image that is in another fold."""
    folds, groups = table["fold_grouped"].to_pylist(), table["group_id"].to_pylist()
    other = next(group for fold, group in zip(folds, groups, strict=True) if fold != folds[8])
    return set_cells(table, {"group_id": {8: other}})


def spoil_images(table: pa.Table) -> pa.Table:
    """Make the image of row 9 black and change one pixel of that of row 11."""
    images = pixels_to_numpy(table["pixels"]).copy()
    images[9] = 0
    images[11, 0, 0] ^= np.uint8(1)
    return replace_column(table, "pixels", pixels_to_arrow(images))


def damage(folder: Path, *how: Callable[[pa.Table], pa.Table]) -> str:
    """Damage the images' file, validate, and return the summary."""
    (part,) = (folder / "images").iterdir()
    table = pq.read_table(part)
    for change in how:
        table = change(table)
    pq.write_table(table, part)
    with pytest.raises(ManifestInvalid):
        validate_manifest(open_manifest(folder))
    return (folder / "validation" / "summary.md").read_text()


@pytest.fixture
def copy(built: Manifest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built.folder, tmp_path / "manifest"))


@pytest.fixture(scope="module")
def damaged(built: Manifest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The lines of the summary of a manifest with damage of every kind."""
    folder = shutil.copytree(built.folder, tmp_path_factory.mktemp("damaged") / "manifest")
    return damage(Path(folder), partial(set_cells, cells=CELLS), split_a_group, spoil_images).splitlines()


@pytest.mark.parametrize(
    ("expectation", "column", "received"),
    [
        ("values_to_be_in_set", "label", "label=Influenza"),
        ("to_not_be_null", "label", "1 of"),
        ("values_to_be_in_set", "role", "role=spare"),
        ("match_regex", "image_id", "image_id=000000000000000"),
        ("be_unique", "source_path", "source_path=classes/Covid19/image-3.png"),
        ("be_between", "mean", "mean=1.5"),
        ("be_between", "width", "width=0"),
        ("values_to_be_in_set", "fold_paper", "fold_paper=7"),
        ("pair_values_to_be_equal", "counted, declared", "label=Covid19 source=classes"),
        ("values_to_be_in_set", "folds_of_group", "folds_of_group=2"),
        ("greater_than_b", "pixel_max, pixel_min", "pixel_max=0"),
        ("pair_values_to_be_equal", "stored_pixel_sha256, pixel_sha256", "2 of"),
    ],
)
def test_damage_fails_its_expectation_and_the_row_is_named(
    damaged: list[str], expectation: str, column: str, received: str
) -> None:
    line = next(line for line in damaged if f"{expectation} | {column} |" in line)
    assert "**not met**" in line
    assert received in line


def test_a_missing_column_fails_an_expectation(copy: Path) -> None:
    summary = damage(copy, lambda table: table.drop_columns(["age"]))
    (line,) = [line for line in summary.splitlines() if "stored_type, expected_type" in line]
    assert "column=age" in line


def test_the_error_names_expectation_column_and_row(copy: Path) -> None:
    (part,) = (copy / "images").iterdir()
    pq.write_table(set_cells(pq.read_table(part), {"label": {3: "Influenza"}}), part)
    with pytest.raises(ManifestInvalid, match=r"be_in_set of label.*1 of \d+ rows.*image_id=\w{16}.*image-3\.png"):
        validate_manifest(open_manifest(copy))


def test_an_excluded_file_that_is_also_a_row_fails_an_expectation(copy: Path) -> None:
    excluded = pq.read_table(copy / "excluded.parquet")
    pq.write_table(set_cells(excluded, {"source_path": {0: "classes/Covid19/image-0.png"}}), copy / "excluded.parquet")
    with pytest.raises(ManifestInvalid, match=r"excluded: .* of also_in_manifest"):
        validate_manifest(open_manifest(copy))


def test_a_file_that_is_neither_a_row_nor_excluded_fails_an_expectation(copy: Path) -> None:
    info = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**info, "files": info["files"] + 1}))
    with pytest.raises(ManifestInvalid, match=r"excluded: .*row_count_to_equal of the table\. Received: 5"):
        validate_manifest(open_manifest(copy))


def test_a_class_that_is_missing_from_a_fold_fails_an_expectation(copy: Path) -> None:
    def crowd(table: pa.Table) -> pa.Table:
        labels = table["label"].to_pylist()
        rows = [row for row, label in enumerate(labels) if label == "Edema"]
        group = table["group_id"][rows[0]].as_py()
        return set_cells(table, {"group_id": dict.fromkeys(rows, group), "fold_grouped": dict.fromkeys(rows, 0)})

    summary = damage(copy, crowd)
    (groups,) = [line for line in summary.splitlines() if "| groups |" in line]
    (folds,) = [line for line in summary.splitlines() if "| grouped_folds |" in line]
    assert "label=Edema" in groups
    assert "groups=1" in groups
    assert "grouped_folds=1" in folds


def test_an_emptied_table_of_excluded_files_is_found(copy: Path) -> None:
    file = copy / "excluded.parquet"
    pq.write_table(pq.read_table(file).slice(0, 0), file)
    with pytest.raises(ManifestInvalid, match="excluded: expect_table_row_count_to_equal"):
        validate_manifest(open_manifest(copy))
