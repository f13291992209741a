from pathlib import Path

import pytest

from cxr_platform.config import SelectionConfig
from cxr_platform.intake.layouts.public_collections import public_collections
from cxr_platform.intake.sources import LAYOUTS, find_candidates
from tests.intake.layouts.collections_on_disk import plant

HANNOVER = "patient_id,image_id,sex,age,icu_admission_offset,modality,projection\n"


def found(folder: Path, **selection: object) -> dict[str, str | None]:
    """Source path → class, or the reason of the refusal."""
    inventory = find_candidates(folder, SelectionConfig(**selection))  # type: ignore[arg-type]
    return {c.source_path: c.refusal.reason if c.refusal else c.label for c in inventory.candidates}


def adults(folder: Path) -> Path:
    """The adult collections as they are published, with what lies beside their images."""
    rows = "p1,aa,m,61,,CR,ap\np1,bb,m,61,2,DX,pa\np2,cc,f,,,CR,ap\n"
    names = ("png/aa.png", "png/bb.png", "png/cc.png", "README.md")
    plant(folder / "covid-19-image-repository", *names, data_csv=HANNOVER + rows)
    plant(folder / "COVID-CXNet", "chest_xray_images/covid19/001.jpeg", "chest_xray_images/covid19/002p.webp", "a.py")
    names = ("Datasets/Chest_x-ray/1-10.jpg", "Datasets/Chest_x-ray/1-10@.png", "CMDUtils/README.md")
    plant(folder / "OpenIST", *names)
    return folder


def test_the_adult_collections_are_read_as_they_are_published(tmp_path: Path) -> None:
    assert found(adults(tmp_path)) == {
        "COVID-CXNet/a.py": "unknown-folder",
        "COVID-CXNet/chest_xray_images/covid19/001.jpeg": "Covid19",
        "COVID-CXNet/chest_xray_images/covid19/002p.webp": "Covid19",
        "OpenIST/CMDUtils/README.md": "not-listed",
        "OpenIST/Datasets/Chest_x-ray/1-10.jpg": "Normal",
        "OpenIST/Datasets/Chest_x-ray/1-10@.png": "not-listed",
        "covid-19-image-repository/README.md": "not-listed",
        "covid-19-image-repository/png/aa.png": "Covid19",
        "covid-19-image-repository/png/bb.png": "Covid19",
        "covid-19-image-repository/png/cc.png": "Covid19",
    }
    inventory = find_candidates(tmp_path, SelectionConfig())
    stated = [(c.patient, c.view, c.sex, c.age) for c in inventory.candidates if c.source_path.endswith("png/bb.png")]
    assert stated == [("p1", "pa", "M", 61.0)]
    assert inventory.origins == {"covid-19-image-repository": "Hannover Medical School"}


def test_a_table_of_the_same_name_that_cannot_be_read_is_another_collection(tmp_path: Path) -> None:
    plant(tmp_path, "png/a.png", "Normal/b.png")
    (tmp_path / "data.csv").write_text('"' + "x" * 200_000 + "\n")  # csv.Error: a field larger than its limit
    assert found(tmp_path)[f"{tmp_path.name}/Normal/b.png"] == "Normal"


def test_a_public_collection_may_be_named_in_a_sources_toml_by_its_path_alone(tmp_path: Path) -> None:
    adults(tmp_path)
    text = 'sources.ist = { path = "OpenIST", role = "external" }\nsources.web = { path = "COVID-CXNet", '
    plant(tmp_path, sources_toml=text + 'files = ["*[!p].*"], origin = "web" }')
    inventory = find_candidates(tmp_path, SelectionConfig())
    used = {c.source_path: (c.label, c.role) for c in inventory.candidates if not c.refusal}
    assert used == {
        "ist/Datasets/Chest_x-ray/1-10.jpg": ("Normal", "external"),
        "web/chest_xray_images/covid19/001.jpeg": ("Covid19", "study"),
    }
    assert inventory.origins == {"web": "web"}


def test_a_stated_layout_or_class_keeps_the_rest_of_what_is_known_of_a_public_collection(tmp_path: Path) -> None:
    adults(tmp_path)
    plant(
        tmp_path / "n",
        "images/a.png",
        **{"Data_Entry_2017_csv": "Image Index,Finding Labels,Patient ID\na.png,Edema,1\n"},
    )
    text = """
        sources.ist = { path = "OpenIST", label = "Normal" }
        sources.han = { path = "covid-19-image-repository", label = "Covid19" }
        sources.nih = { path = "n", layout = "nih" }
    """
    plant(tmp_path, sources_toml=text)
    inventory = find_candidates(tmp_path, SelectionConfig())
    assert inventory.origins == {"han": "Hannover Medical School", "nih": "NIH"}
    refused = [c.source_path for c in inventory.candidates if c.refusal and c.source == "ist"]
    assert refused == ["ist/CMDUtils/README.md", "ist/Datasets/Chest_x-ray/1-10@.png"]


def test_a_table_of_another_hospital_is_no_public_collection(tmp_path: Path) -> None:
    plant(tmp_path / "ours", "png/aa.png", data_csv="patient_id,image_id,projection\np1,aa,ap\n")
    plant(tmp_path / "chest", "covid/a.png")
    assert found(tmp_path) == {
        "./ours/data.csv": "unknown-folder",
        "./ours/png/aa.png": "unknown-folder",
        "chest/covid/a.png": "Covid19",
    }


def test_every_public_collection_names_a_layout() -> None:
    layouts = {layout.name for layout in LAYOUTS}
    assert {public.implied_layout for public in public_collections().values()} <= layouts


@pytest.mark.real
def test_the_real_adult_collections_have_the_images_of_their_description(real_data: Path) -> None:
    inventory = find_candidates(real_data / "adults", SelectionConfig(classes="any"))
    images = [(c.source, c.label) for c in inventory.candidates if not c.refusal]
    assert {pair: images.count(pair) for pair in set(images)} == {
        ("covid-19-image-repository", "Covid19"): 231,
        ("COVID-CXNet", "Covid19"): 451,
        ("OpenIST", "Normal"): 275,
        ("nih-adults", "Normal"): 152,
        ("nih-adults", "Pneumonia"): 111,  # of 116; five have two of the four findings that come first
    }
    patients = {c.patient for c in inventory.candidates if c.source == "covid-19-image-repository"} - {None}
    assert len(patients) == 64
