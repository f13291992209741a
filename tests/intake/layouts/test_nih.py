from pathlib import Path

import pytest

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import SourceError
from cxr_platform.intake.sources import find_candidates
from tests.intake.layouts.collections_on_disk import images, plant, verdicts

HEADER_2017 = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
)
HEADER_2020 = HEADER_2017.replace("y],", "y]")


def row(name: str, findings: str, patient: str = "1", age: str = "58", view: str = "PA") -> str:
    return f"{name},{findings},0,{patient},{age},M,{view},2682,2749,0.143,0.143\n"


def nih(folder: Path, **findings: str) -> Path:
    table = HEADER_2020 + "".join(row(f"{name}.png", f) for name, f in findings.items())
    plant(folder, *(f"images/{name}.png" for name in findings))
    (folder / "Data_Entry_2017_v2020.csv").write_text(table)
    return folder


def test_images_with_exactly_one_of_the_four_findings_are_used(tmp_path: Path) -> None:
    folder = nih(
        tmp_path / "n",
        a="Edema",
        b="Effusion|Mass",
        c="Edema|Effusion",
        d="No Finding",
        e="Pneumonia",
        f="Emphysema",
        g="Fibrosis|Pleural_Thickening",
    )
    assert list(verdicts(folder).values()) == [
        "Edema",
        "Effusion",
        "several-findings",
        "finding-not-studied",
        "finding-not-studied",
        "Emphysema",
        "Fibrosis",
    ]


def test_any_collection_may_give_normal_and_pneumonia_and_the_others_keep_their_class(tmp_path: Path) -> None:
    folder = nih(tmp_path / "n", a="Edema|Pneumonia", b="No Finding", c="Mass|Pneumonia", d="Mass", e="Edema|Effusion")
    expected = ["Edema", "Normal", "Pneumonia", "finding-not-studied", "several-findings"]
    assert list(verdicts(folder, classes="any").values()) == expected
    assert verdicts(folder, classes="any", no_finding_is_normal=False)["images/b.png"] == "finding-not-studied"
    assert verdicts(folder, classes="any", single_finding_only=True)["images/c.png"] == "further-findings"


def test_single_finding_only_refuses_further_findings(tmp_path: Path) -> None:
    folder = nih(tmp_path / "n", a="Edema", b="Edema|Pneumonia")
    assert list(verdicts(folder, single_finding_only=True).values()) == ["Edema", "further-findings"]
    assert images(folder, single_finding_only=True)["images/b.png"].label == "Edema"


def test_the_twelve_published_archives_are_read_as_one(tmp_path: Path) -> None:
    folder = plant(
        tmp_path / "n",
        "images_001/images/00000001_000.png",
        "images_012/images/00030805_000.png",
        "thumbnails/00000001_000.png",
        "BBox_List_2017.csv",
    )
    table = HEADER_2017 + row("00000001_000.png", "Edema") + row("00030805_000.png", "Fibrosis", "30805")
    (folder / "Data_Entry_2017.csv").write_text(table)
    assert verdicts(folder) == {
        "BBox_List_2017.csv": "not-listed",
        "images_001/images/00000001_000.png": "Edema",
        "images_012/images/00030805_000.png": "Fibrosis",
        "thumbnails/00000001_000.png": "not-listed",
    }


def test_the_corrected_table_is_preferred(tmp_path: Path) -> None:
    folder = nih(tmp_path / "n", a="Edema")
    (folder / "Data_Entry_2017.csv").write_text(HEADER_2017 + row("a.png", "Fibrosis"))
    assert verdicts(folder) == {"Data_Entry_2017.csv": "not-listed", "images/a.png": "Edema"}
    assert find_candidates(folder, SelectionConfig()).tables == ["n/Data_Entry_2017_v2020.csv"]


@pytest.mark.parametrize(
    ("text", "years"), [("058Y", 58.0), ("58", 58.0), ("006M", 0.5), ("411Y", None), ("414", None), ("", None)]
)
def test_ages_of_both_tables_are_years_and_implausible_ones_are_dropped(
    tmp_path: Path, text: str, years: float | None
) -> None:
    folder = plant(tmp_path / "n", "images/a.png")
    (folder / "Data_Entry_2017.csv").write_text(HEADER_2017 + row("a.png", "Edema", age=text))
    assert images(folder)["images/a.png"].age == years


def test_patient_sex_and_view_are_read_from_either_column_name(tmp_path: Path) -> None:
    folder = plant(tmp_path / "n", "images/a.png")
    header = HEADER_2017.replace("Patient Gender", "Patient Sex")
    (folder / "Data_Entry_2017.csv").write_text(header + row("a.png", "Edema", "00000007", view="AP"))
    image = images(folder)["images/a.png"]
    assert (image.patient, image.sex, image.view) == ("7", "M", "AP")


def test_a_table_with_other_columns_is_an_error_that_names_them(tmp_path: Path) -> None:
    folder = nih(tmp_path / "n", a="Edema")
    (folder / "Data_Entry_2017_v2020.csv").write_text("Image;Findings;Patient\na.png;Edema;1\n")
    with pytest.raises(SourceError, match="expected the columns imageindex, findinglabels, patientid") as caught:
        images(folder)
    assert caught.value.received == "the columns Image, Findings, Patient"


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters_than_commas_are_read(tmp_path: Path, delimiter: str) -> None:
    folder = nih(tmp_path / "n", a="Edema")
    rows = [("Image Index", "Finding Labels", "Patient ID"), ("a.png", "Edema", "1")]
    (folder / "Data_Entry_2017_v2020.csv").write_text("\n".join(map(delimiter.join, rows)))
    assert images(folder)["images/a.png"].patient == "1"


def test_an_empty_table_is_an_error(tmp_path: Path) -> None:
    folder = nih(tmp_path / "n", a="Edema")
    (folder / "Data_Entry_2017_v2020.csv").write_text("")
    with pytest.raises(SourceError, match="no header"):
        images(folder)
