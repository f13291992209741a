from pathlib import Path

import pytest

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import SourceError
from cxr_platform.intake.sources import Inventory, find_candidates
from tests.intake.layouts.collections_on_disk import plant

NIH = "Image Index,Finding Labels,Patient ID\n"
SOURCE = """
    [sources.a]
    path = "a"
    [sources.a.reader_labels]
    table = "second.csv"
"""


def find(data: Path) -> Inventory:
    return find_candidates(data, SelectionConfig(classes="any"))


def readings(inventory: Inventory) -> dict[str, tuple[str | None, str | None, str | None]]:
    """File name → its own label, what readers state, and the class that it stands for."""
    return {c.path.name: (c.label, c.reader_finding, c.reader_label) for c in inventory.candidates}


def two_tables(folder: Path, second: str, toml: str = SOURCE) -> Path:
    rows = "1.png,Pneumonia,1\n2.png,No Finding,2\n3.png,Pneumonia,3\n4.png,Edema,4\n"
    plant(folder / "a", *(f"images/{i}.png" for i in (1, 2, 3, 4)), **{"Data_Entry_2017_csv": NIH + rows})
    return plant(folder, second_csv=second, sources_toml=toml)


def test_a_second_table_states_the_labels_of_readers_beside_those_of_the_first(tmp_path: Path) -> None:
    second = "image,label\n1.png,Normal\n2.png,no finding\n3,Mass\n9.png,Normal\n"
    inventory = find(two_tables(tmp_path, second))
    assert readings(inventory) == {
        "1.png": ("Pneumonia", "Normal", "Normal"),
        "2.png": ("Normal", "no finding", "Normal"),
        "3.png": ("Pneumonia", "Mass", None),
        "4.png": ("Edema", None, None),
    }


def test_columns_and_words_of_the_readers_may_be_named(tmp_path: Path) -> None:
    keys = 'file = "which"\nlabel = "RSNA label"\nclasses = { clear = "Normal", "Lung-Opacity" = "Pneumonia" }'
    second = "which,RSNA label,label\n1.png,lung opacity,x\n2.png,Clear,x\n3.png,normal,x\n"
    inventory = find(two_tables(tmp_path, second, SOURCE + keys))
    assert readings(inventory) == {
        "1.png": ("Pneumonia", "lung opacity", "Pneumonia"),
        "2.png": ("Normal", "Clear", "Normal"),
        "3.png": ("Pneumonia", "normal", None),
        "4.png": ("Edema", None, None),
    }


def test_of_several_readers_the_majority_counts(tmp_path: Path) -> None:
    second = "image,label\n1.png,Normal\n1.png,Mass\n1.png,Normal\n2.png,Normal\n2.png,Pneumonia\n"
    stated = readings(find(two_tables(tmp_path, second)))
    assert stated["1.png"] == ("Pneumonia", "Normal / Mass", "Normal")
    assert stated["2.png"] == ("Normal", "Normal / Pneumonia", "undecided")


def test_a_second_table_beside_the_images_is_a_table_and_no_excluded_file(tmp_path: Path) -> None:
    folder = tmp_path / "one" / "n"
    plant(folder, "images/1.png", radiologist_labels_csv="film,rsna_label\n1.png,lung-opacity\n")
    (folder / "Data_Entry_2017_v2020.csv").write_text(NIH + "1.png,No Finding,1\n")
    inventory = find(folder.parent)
    assert readings(inventory) == {"1.png": ("Normal", "lung-opacity", "Pneumonia")}
    assert inventory.tables == ["n/Data_Entry_2017_v2020.csv", "n/radiologist_labels.csv"]


def test_the_readers_of_a_public_collection_may_have_seen_none_of_the_images_of_a_part(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plant(tmp_path / "n", "images/1.png", radiologist_labels_csv="film,rsna_label\n2.png,lung-opacity\n")
    (tmp_path / "n" / "Data_Entry_2017_v2020.csv").write_text(NIH + "1.png,No Finding,1\n")
    assert readings(find(tmp_path)) == {"1.png": ("Normal", None, None)}
    assert "radiologist_labels.csv names none of the 1 files of n" in caplog.text


@pytest.mark.parametrize(
    ("second", "toml", "message"),
    [
        (
            "image,label\n9.png,Normal\n",
            SOURCE,
            r"second\.csv: expected readers' labels of images of a\. Received: none",
        ),
        ("image,reading\n1.png,Normal\n", SOURCE, r"second\.csv: expected the column label or finding"),
        ("image,label\n", SOURCE.replace("second.csv", "gone.csv"), r"a\.reader_labels: table: expected a CSV"),
    ],
)
def test_a_second_table_that_cannot_be_used_is_an_error(tmp_path: Path, second: str, toml: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        find(two_tables(tmp_path, second, toml))


@pytest.mark.real
def test_readers_labelled_a_third_of_the_real_adults_of_nih(real_data: Path) -> None:
    inventory = find_candidates(real_data / "adults", SelectionConfig(classes="any"))
    pairs = [(c.label, c.reader_label) for c in inventory.candidates if c.reader_finding and not c.refusal]
    assert {pair: pairs.count(pair) for pair in set(pairs)}[("Pneumonia", "Normal")] >= 25
    assert sum(c.reader_finding is not None for c in inventory.candidates) == 91
