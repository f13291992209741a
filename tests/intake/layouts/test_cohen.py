from pathlib import Path

import pytest

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import SourceError
from cxr_platform.intake.sources import find_candidates
from tests.intake.layouts.collections_on_disk import images, plant, verdicts

HEADER = "patientid,offset,sex,age,finding,view,modality,folder,filename\n"


def cohen(folder: Path, *rows: str, header: str = HEADER) -> Path:
    names = [f"images/{row.rsplit(',', 1)[1]}" for row in rows]
    return plant(folder, *names, metadata_csv=header + "".join(f"{row}\n" for row in rows))


def test_covid_among_the_findings_is_covid_in_every_version_of_the_table(tmp_path: Path) -> None:
    folder = cohen(
        tmp_path / "c",
        "1,0,M,65,COVID-19,PA,X-ray,images,a.jpg",
        '2,0,F,70,"COVID-19, ARDS",AP Supine,X-ray,images,b.jpg',
        "3,0,F,70,Pneumonia/Viral/COVID-19,AP,X-ray,images,c.jpg",
    )
    assert set(verdicts(folder).values()) == {"Covid19"}


@pytest.mark.parametrize("finding", ["Pneumonia", "SARS", "ARDS", "Pneumonia/Viral/SARS", "todo"])
def test_other_pneumonias_are_not_studied(tmp_path: Path, finding: str) -> None:
    folder = cohen(tmp_path / "c", f"1,0,M,65,{finding},PA,X-ray,images,a.jpg", "2,,,,COVID-19,PA,X-ray,images,b.jpg")
    assert verdicts(folder) == {"images/a.jpg": "finding-not-studied", "images/b.jpg": "Covid19"}


@pytest.mark.parametrize(
    ("finding", "label"),
    [("Pneumonia", "Pneumonia"), ("Pneumonia/Viral/SARS", "Pneumonia"), ("Pneumonia/Viral/COVID-19", "Covid19")],
)
def test_any_collection_may_give_pneumonia(tmp_path: Path, finding: str, label: str) -> None:
    folder = cohen(tmp_path / "c", f"1,0,M,65,{finding},PA,X-ray,images,a.jpg", "2,,,,SARS,PA,X-ray,images,b.jpg")
    assert verdicts(folder, classes="any") == {"images/a.jpg": label, "images/b.jpg": "finding-not-studied"}


def test_no_finding_is_normal_unless_switched_off(tmp_path: Path) -> None:
    folder = cohen(tmp_path / "c", "1,0,M,65,No Finding,PA,X-ray,images,a.jpg")
    assert verdicts(folder) == {"images/a.jpg": "Normal"}
    assert verdicts(folder, no_finding_is_normal=False) == {"images/a.jpg": "finding-not-studied"}


def test_ct_and_lateral_views_are_refused_and_keep_their_label(tmp_path: Path) -> None:
    folder = cohen(
        tmp_path / "c",
        "1,0,M,65,COVID-19,Axial,CT,images,ct.jpg",
        "1,0,M,65,COVID-19,L,X-ray,images,lateral.jpg",
        "1,0,M,65,COVID-19,,X-ray,images,unknown.jpg",
    )
    assert verdicts(folder) == {
        "images/ct.jpg": "modality",
        "images/lateral.jpg": "view",
        "images/unknown.jpg": "Covid19",
    }
    assert images(folder)["images/lateral.jpg"].label == "Covid19"
    assert verdicts(folder, frontal_only=False)["images/lateral.jpg"] == "Covid19"


def test_ct_as_a_view_is_refused_as_modality(tmp_path: Path) -> None:
    folder = cohen(
        tmp_path / "c",
        "1, ,,COVID-19,CT,a.jpg",
        "2,0,M,COVID-19,PA,b.jpg",
        header="Patientid,offset,sex,finding,view,filename\n",
    )
    assert verdicts(folder) == {"images/a.jpg": "modality", "images/b.jpg": "Covid19"}


def test_patient_sex_age_and_view_come_from_the_row(tmp_path: Path) -> None:
    folder = cohen(
        tmp_path / "c", "319a,6,F,74,COVID-19,AP,X-ray,images,a.png", "319b,6,F,50+,COVID-19,AP,X-ray,images,b.png"
    )
    first, second = images(folder).values()
    assert (first.patient, first.sex, first.age, first.view, first.finding) == ("319a", "F", 74.0, "AP", "COVID-19")
    assert (second.patient, second.age) == ("319b", None)
    assert first.path == (folder / "images/a.png").resolve()


def test_rows_without_a_file_are_counted(tmp_path: Path) -> None:
    folder = cohen(tmp_path / "c", "1,0,M,65,COVID-19,PA,X-ray,images,a.jpg")
    with (folder / "metadata.csv").open("a") as table:
        table.write("9,0,M,65,COVID-19,Axial,CT,volumes,scan.nii.gz\n9,0,M,65,COVID-19,PA,X-ray,images,gone.jpg\n")
    assert find_candidates(folder, SelectionConfig()).missing_files == {"c": 2}


def test_a_file_with_two_rows_is_one_image(tmp_path: Path) -> None:
    folder = cohen(
        tmp_path / "c",
        "285,7,F,64,COVID-19,PA,X-ray,images,a.jpg",
        "339,7,F,64,COVID-19,PA,X-ray,images,a.jpg",
        "340,7,F,64,COVID-19,PA,X-ray,images,b.jpg",
        "341,7,F,64,No Finding,PA,X-ray,images,b.jpg",
    )
    assert verdicts(folder) == {"images/a.jpg": "Covid19", "images/b.jpg": "conflicting-label"}
    assert images(folder)["images/b.jpg"].refusal.detail == "listed as COVID-19 and as No Finding"


def test_files_without_a_row_are_not_listed(tmp_path: Path) -> None:
    folder = cohen(tmp_path / "c", "1,0,M,65,COVID-19,PA,X-ray,images,a.jpg")
    plant(folder, "README.md", "images/.DS_Store", "images/other.jpg", "annotations/a.jpg", ".git/index")
    not_listed = [path for path, verdict in verdicts(folder).items() if verdict == "not-listed"]
    assert not_listed == ["README.md", "annotations/a.jpg", "images/.DS_Store", "images/other.jpg"]


def test_actualmed_has_a_column_imagename_and_empty_findings(tmp_path: Path) -> None:
    table = (
        "patientid,offset,sex,age,finding,view,modality,imagename,notes\n"
        "ANON1,,,,,PA,X-ray,CR.1.png,Inconclusive\nANON2,,,,No finding,PA,X-ray,CR.2.png,\n"
        "ANON3,,,,COVID-19,AP,X-ray,CR.3.png,\n"
    )
    folder = plant(tmp_path / "a", "images/CR.1.png", "images/CR.2.png", "images/CR.3.png", metadata_csv=table)
    assert list(verdicts(folder).values()) == ["no-finding-given", "Normal", "Covid19"]


def test_figure1_names_images_after_patient_and_letter(tmp_path: Path) -> None:
    files = ("images/COVID-00003a.jpg", "images/COVID-00003b.png", "images/COVID-00031.jpg", "images/COVID-00023.jpg")
    folder = plant(tmp_path / "f", *files)
    (folder / "metadata.csv").write_bytes(
        b"patientid,offset,sex,age,finding,survival,view,modality,notes\n"
        b"COVID-00003a,8,M,28,COVID-19,,AP erect,X-ray,38\xb0C\nCOVID-00003b,8,M,28,COVID-19,,,X-ray,\n"
        b"COVID-00031,,,,Pneumonia,,,X-ray,\nCOVID-00023,,,mid 50s,No finding,,,X-ray,\n"
    )
    assert verdicts(folder) == {
        "images/COVID-00003a.jpg": "Covid19",
        "images/COVID-00003b.png": "Covid19",
        "images/COVID-00023.jpg": "Normal",
        "images/COVID-00031.jpg": "finding-not-studied",
    }
    assert [image.patient for image in images(folder).values()] == [
        "COVID-00003",
        "COVID-00003",
        "COVID-00023",
        "COVID-00031",
    ]


def test_a_missing_finding_column_is_named_in_the_error(tmp_path: Path) -> None:
    folder = cohen(tmp_path / "c", "1,a.jpg", header="patientid,filename\n")
    with pytest.raises(SourceError, match=r"metadata\.csv: expected the column finding\. Received: the columns"):
        images(folder)


def test_a_table_without_any_of_its_images_is_an_error(tmp_path: Path) -> None:
    folder = plant(tmp_path / "c", "README.md", metadata_csv=HEADER + "1,0,M,65,COVID-19,PA,X-ray,images,a.jpg\n")
    with pytest.raises(SourceError, match=r"metadata\.csv: expected its images in images/.*none.*of its 1 rows"):
        images(folder)
