import shutil
from collections import Counter
from pathlib import Path

import pytest

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import SourceError
from cxr_platform.intake.candidate import REASONS
from cxr_platform.intake.sources import Inventory, find_candidates, mark_contrast, mark_external
from tests.intake.layouts.collections_on_disk import plant

COHEN = "patientid,finding,view,modality,filename\n1,COVID-19,PA,X-ray,a.jpg\n"
KERMANY = ("train/NORMAL/IM-0001-0001.jpeg", "test/PNEUMONIA/person1_virus_6.jpeg")


def find(data: Path) -> Inventory:
    return find_candidates(data, SelectionConfig())


def several(data: Path) -> Path:
    plant(data / "chest_xray", *KERMANY)
    plant(data / "covid-chestxray-dataset", "images/a.jpg", metadata_csv=COHEN)
    plant(data / "hospital", "dataset/effusion/a.png")
    return data


def test_each_collection_of_a_folder_is_recognised(tmp_path: Path) -> None:
    inventory = find(several(tmp_path))
    assert [(c.source_path, c.label) for c in inventory.candidates] == [
        ("chest_xray/test/PNEUMONIA/person1_virus_6.jpeg", "Pneumonia"),
        ("chest_xray/train/NORMAL/IM-0001-0001.jpeg", "Normal"),
        ("covid-chestxray-dataset/images/a.jpg", "Covid19"),
        ("hospital/dataset/effusion/a.png", "Effusion"),
    ]
    assert inventory.tables == ["covid-chestxray-dataset/metadata.csv"]
    assert inventory.synthetic_sources == frozenset()


def test_files_outside_the_collections_are_refused(tmp_path: Path) -> None:
    plant(several(tmp_path), "README.md", "unsorted/a.png")
    refused = [(c.source_path, c.refusal.reason) for c in find(tmp_path).candidates if c.refusal]
    assert refused == [("./README.md", "unknown-folder"), ("./unsorted/a.png", "unknown-folder")]


@pytest.mark.parametrize(
    ("setting", "expected"), [("covid19", ["cohen/images/b.jpg"]), ("all", ["cohen/images/b.jpg", "n/images/b.png"])]
)
def test_images_of_another_finding_are_contrast_images_of_sources_of_the_study(
    tmp_path: Path, setting: str, expected: list[str]
) -> None:
    rows = "2,SARS,PA,X-ray,b.jpg\n3,SARS,L,X-ray,c.jpg\n4,todo,PA,X-ray,d.jpg\n5,possible COVID19,PA,X-ray,e.jpg\n"
    rows += "6,SARS,Axial,CT,f.jpg\n"
    plant(tmp_path / "cohen", *(f"images/{name}.jpg" for name in "abcdef"), metadata_csv=COHEN + rows)
    header = "Image Index,Finding Labels,Patient ID\n"
    plant(tmp_path / "n", "images/a.png", "images/b.png", "images/c.png")
    (tmp_path / "n/Data_Entry_2017.csv").write_text(header + "a.png,Edema,1\nb.png,Mass,1\nc.png,Edema|Fibrosis,1\n")
    plant(tmp_path / "o", "images/b.png")  # has no image of the study
    (tmp_path / "o/Data_Entry_2017.csv").write_text(header + "b.png,Mass,1\n")
    inventory = find(tmp_path)

    marked = mark_contrast(inventory, SelectionConfig(contrast=setting))  # type: ignore[arg-type]
    contrast = [c for c in marked.candidates if c.role == "contrast"]
    assert [c.source_path for c in contrast] == expected
    assert [(c.label, c.finding, c.refusal) for c in contrast[:1]] == [(None, "SARS", None)]
    others = [c for c in marked.candidates if c.role != "contrast"]
    assert others == [c for c in inventory.candidates if c.source_path not in expected]
    assert mark_contrast(inventory, SelectionConfig(contrast="none")) == inventory


@pytest.mark.parametrize("finding", ["Pneumonia", "Pneumonia/Viral/SARS", "No Finding"])
def test_a_class_that_the_profile_does_not_take_from_a_collection_is_no_contrast_image(
    tmp_path: Path, finding: str
) -> None:
    plant(tmp_path / "cohen", "images/a.jpg", "images/b.jpg", metadata_csv=f"{COHEN}2,{finding},PA,X-ray,b.jpg\n")
    selection = SelectionConfig(contrast="all", classes="paper", no_finding_is_normal=False)
    marked = mark_contrast(find_candidates(tmp_path, selection), selection)
    assert [(c.role, c.refusal and c.refusal.reason) for c in marked.candidates][1] == ("study", "finding-not-studied")


def test_an_external_source_has_no_contrast_images(tmp_path: Path) -> None:
    for name in ("a", "b"):
        rows = COHEN + "2,SARS,PA,X-ray,b.jpg\n"
        plant(tmp_path / name, "images/a.jpg", "images/b.jpg", metadata_csv=rows)
    marked = mark_contrast(mark_external(find(tmp_path), ["b"]), SelectionConfig())
    assert [(c.source_path, c.role) for c in marked.candidates] == [
        ("a/images/a.jpg", "study"),
        ("a/images/b.jpg", "contrast"),
        ("b/images/a.jpg", "external"),
        ("b/images/b.jpg", "external"),
    ]


def test_nested_collections_are_named_after_their_path(tmp_path: Path) -> None:
    plant(tmp_path / "archive/covid-master", "images/a.jpg", metadata_csv=COHEN)
    plant(tmp_path / "archive/cell/chest_xray", *KERMANY)
    assert list(find(tmp_path).missing_files) == ["archive/cell/chest_xray", "archive/covid-master"]


def test_a_published_collection_beside_class_folders_keeps_its_layout(tmp_path: Path) -> None:
    plant(several(tmp_path), "normal/b.png")
    inventory = {c.source_path: c.label for c in find(tmp_path).candidates}
    assert inventory["normal/b.png"] == "Normal"
    assert inventory["covid-chestxray-dataset/images/a.jpg"] == "Covid19"


def test_a_stray_csv_beside_collections_does_not_make_a_dicom_folder(tmp_path: Path) -> None:
    plant(several(tmp_path), notes_csv="a,b\n")
    plant(tmp_path / "pacs", "x.dcm", labels_csv="filename,label\nx.dcm,Edema\n")
    assert "pacs/labels.csv" in find(tmp_path).tables


def test_a_data_folder_that_is_absent_empty_or_a_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nothing of that name"):
        find(tmp_path / "absent")
    plant(tmp_path, "file.txt")
    with pytest.raises(SourceError, match="a file"):
        find(tmp_path / "file.txt")
    (tmp_path / "empty/deep").mkdir(parents=True)
    with pytest.raises(SourceError, match="without files"):
        find(tmp_path / "empty")


def test_an_unknown_layout_error_names_the_content_and_the_layouts(tmp_path: Path) -> None:
    plant(tmp_path, "stuff/a.png", "notes.txt")
    with pytest.raises(SourceError) as caught:
        find(tmp_path)
    for part in ("Received: notes.txt, stuff/", "NIH ChestX-ray14", "Kermany", "a folder per class", "sources.toml"):
        assert part in str(caught.value)


def test_an_unreadable_csv_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    plant(tmp_path, "images/a.jpg", metadata_csv=COHEN + '2,"' + "x" * 200_000 + '",PA,X-ray,b.jpg\n')
    with pytest.raises(SourceError, match=r"readable CSV at .*metadata\.csv\. Received: field larger .* after line 2"):
        find(tmp_path)


def test_links_are_followed_without_cycles(tmp_path: Path) -> None:
    plant(tmp_path / "store", "a.png")
    data = plant(tmp_path / "data", "covid/b.png")
    (data / "covid/circle").symlink_to(data)
    (data / "covid/itself").symlink_to(data / "covid/itself")
    (data / "covid/nowhere.png").symlink_to(tmp_path / "gone.png")
    (data / "effusion").symlink_to(tmp_path / "store")
    assert [(c.source_path, c.label) for c in find(data).candidates] == [
        ("data/covid/b.png", "Covid19"),
        ("data/covid/itself", "Covid19"),
        ("data/covid/nowhere.png", "Covid19"),
        ("data/effusion/a.png", "Effusion"),
    ]


def test_names_that_are_not_utf8_are_escaped(tmp_path: Path) -> None:
    folder = tmp_path / "data/covid"
    folder.mkdir(parents=True)
    (folder / b"caf\xe9.png".decode("utf-8", "surrogateescape")).touch()
    candidate = find(tmp_path / "data").candidates[0]
    assert candidate.source_path == "data/covid/caf\\xe9.png"
    assert candidate.path.exists()


def roles(inventory: Inventory) -> dict[str, str]:
    return {candidate.source: candidate.role for candidate in inventory.candidates}


def test_mark_external_sets_the_role_of_the_sources(tmp_path: Path) -> None:
    inventory = find(plant(several(tmp_path), "unsorted/a.png"))
    marked = mark_external(inventory, ["hospital", "chest_xray"])
    assert roles(marked) == {
        ".": "study",
        "chest_xray": "external",
        "covid-chestxray-dataset": "study",
        "hospital": "external",
    }
    assert [c.source_path for c in marked.candidates] == [c.source_path for c in inventory.candidates]
    assert mark_external(inventory, []) == inventory


def test_an_unknown_source_cannot_be_marked(tmp_path: Path) -> None:
    inventory = find(plant(several(tmp_path), "unsorted/a.png"))
    with pytest.raises(SourceError, match=r"out of chest_xray, covid-chestxray-dataset, hospital\..*'hospitl', '\.'"):
        mark_external(inventory, ["hospitl", "hospital", "."])


def test_a_source_to_train_on_must_remain(tmp_path: Path) -> None:
    inventory = find(plant(several(tmp_path), "unsorted/a.png"))
    with pytest.raises(SourceError, match="at least one source that is not external"):
        mark_external(inventory, ["hospital", "chest_xray", "covid-chestxray-dataset"])


def test_sources_that_sources_toml_marks_external_do_not_count_for_training(tmp_path: Path) -> None:
    plant(
        several(tmp_path),
        sources_toml="""
        sources.hospital = { path = "hospital", role = "external" }
        sources.cell = { path = "chest_xray" }
    """,
    )
    with pytest.raises(SourceError, match="at least one source that is not external"):
        mark_external(find(tmp_path), ["cell"])


def test_outside_sources_are_folders_that_need_no_layout(tmp_path: Path) -> None:
    plant(several(tmp_path), "tb/train/1.png", "more/Tuberculosis/2.png")
    inventory = find_candidates(tmp_path, SelectionConfig(), ["tb", "more/Tuberculosis"])
    assert roles(inventory)["tb"] == roles(inventory)["more/Tuberculosis"] == "outside"
    assert [c.finding for c in inventory.candidates if c.role == "outside"] == ["Tuberculosis", "tb"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["gone"], r"outside sources out of the folders of .*'gone'"),
        (["tb", "tb/train"], "none lies in another"),
    ],
)
def test_an_outside_source_that_is_no_folder_or_in_another_is_an_error(
    tmp_path: Path, names: list[str], message: str
) -> None:
    plant(several(tmp_path), "tb/train/1.png")
    with pytest.raises(SourceError, match=message):
        find_candidates(tmp_path, SelectionConfig(), names)


def test_outside_names_are_sources_of_a_sources_toml_if_there_is_one(tmp_path: Path) -> None:
    toml = 'sources.tb = { path = "x" }\nsources.far = { path = "y", role = "external" }\nsources.own = { path = "z" }'
    plant(tmp_path, "x/1.png", "y/covid/1.png", "z/covid/1.png", sources_toml=toml)
    assert roles(find_candidates(tmp_path, SelectionConfig(), ["tb"])) == {
        "tb": "outside",
        "far": "external",
        "own": "study",
    }
    with pytest.raises(SourceError, match=r"out of the sources tb, far, own\. Received: 'x'"):
        find_candidates(tmp_path, SelectionConfig(), ["x"])
    with pytest.raises(SourceError, match=r"external or outside\. Received: far as both"):
        find_candidates(tmp_path, SelectionConfig(), ["tb", "far"])


def test_a_source_cannot_be_both_outside_and_external_and_some_must_remain(tmp_path: Path) -> None:
    inventory = find_candidates(plant(several(tmp_path), "tb/1.png"), SelectionConfig(), ["tb"])
    with pytest.raises(SourceError, match="tb as both"):
        mark_external(inventory, ["tb"])
    with pytest.raises(SourceError, match="at least one source that is not external"):
        mark_external(inventory, ["hospital", "chest_xray", "covid-chestxray-dataset"])
    with pytest.raises(SourceError, match="at least one source that is not external"):
        mark_external(find_candidates(tmp_path / "tb", SelectionConfig(), ["tb"]), [])


def test_outside_sources_alone_can_be_listed_but_not_trained_on(tmp_path: Path) -> None:
    inventory = find_candidates(plant(tmp_path, "tb/1.png", "silicosis/2.png"), SelectionConfig(), ["tb", "silicosis"])
    assert roles(inventory) == {"tb": "outside", "silicosis": "outside"}
    with pytest.raises(SourceError, match="at least one source that is not external"):
        mark_external(inventory, [])
    with pytest.raises(SourceError, match="expected a collection"):
        find_candidates(tmp_path, SelectionConfig(), ["tb"])


def _counts(inventory: Inventory) -> Counter[tuple[str, str]]:
    return Counter((c.source, c.refusal.reason if c.refusal else str(c.label)) for c in inventory.candidates)


@pytest.mark.real
def test_real_collections_have_the_counts_of_their_readme(real_data: Path) -> None:
    sources = real_data / "sources"
    inventory = find(sources)
    counts = _counts(inventory)
    # 381 Covid19 images of which 21 are lateral
    assert counts["covid-chestxray-dataset", "Covid19"] == 360
    assert counts["covid-chestxray-dataset", "view"] == 21
    assert counts["chest_xray", "Normal"] == 1335
    assert counts["chest_xray", "Pneumonia"] == 1033
    studied = {"Edema": 115, "Effusion": 224, "Emphysema": 74, "Fibrosis": 54}
    assert {label: counts["nih-chestxray14", label] for label in studied} == studied
    # 137 with none or several
    assert counts["nih-chestxray14", "finding-not-studied"] == 99
    assert counts["nih-chestxray14", "several-findings"] == 38
    assert counts["pleural-effusion-detection", "Effusion"] == 170
    assert counts["pleural-effusion-detection", "Normal"] == 10
    assert counts["actualmed-covid-chestxray-dataset", "Covid19"] == 26
    assert counts["actualmed-covid-chestxray-dataset", "Normal"] == 18
    assert inventory.missing_files["nih-chestxray14"] == 904 - 604


@pytest.mark.real
def test_every_real_file_is_a_candidate_or_a_table(real_data: Path) -> None:
    sources = real_data / "sources"
    inventory = find(sources)
    files = {path.relative_to(sources).as_posix() for path in sources.rglob("*") if path.is_file()}
    assert {c.source_path for c in inventory.candidates} | set(inventory.tables) == files
    assert len(inventory.candidates) + len(inventory.tables) == len(files)
    assert {c.refusal.reason for c in inventory.candidates if c.refusal} <= REASONS.keys()


@pytest.mark.real
def test_lateral_images_are_used_without_frontal_only(real_data: Path) -> None:
    inventory = find_candidates(real_data / "sources", SelectionConfig(frontal_only=False))
    assert _counts(inventory)["covid-chestxray-dataset", "Covid19"] == 381


@pytest.mark.real
def test_every_file_in_real_class_folders_is_a_candidate(real_data: Path, tmp_path: Path) -> None:
    shutil.copytree(real_data / "bad", tmp_path / "made/covid-19")
    shutil.copytree(real_data / "originals", tmp_path / "made/normal")
    shutil.copytree(real_data / "extras/nih_rotated90/images", tmp_path / "made/effusion/rotated")
    counts = _counts(find(tmp_path / "made"))
    assert counts == {("made", "Covid19"): 5, ("made", "Normal"): 32, ("made", "Effusion"): 16}
