import shutil
from collections import Counter
from pathlib import Path

import pytest

from cxr_platform.config import SelectionConfig
from cxr_platform.errors import ConfigError, SourceError
from cxr_platform.intake.candidate import Refusal
from cxr_platform.intake.reasons import REASONS
from cxr_platform.intake.sources import Found, find_candidates, mark_external
from tests.intake.layouts.planting import plant

COHEN = "patientid,finding,view,modality,filename\n1,COVID-19,PA,X-ray,a.jpg\n"
KERMANY = ("train/NORMAL/IM-0001-0001.jpeg", "test/PNEUMONIA/person1_virus_6.jpeg")


def find(data: Path) -> Found:
    return find_candidates(data, SelectionConfig())


def several(data: Path) -> Path:
    plant(data / "chest_xray", *KERMANY)
    plant(data / "covid-chestxray-dataset", "images/a.jpg", metadata_csv=COHEN)
    plant(data / "hospital", "dataset/effusion/a.png")
    return data


def test_a_folder_of_several_collections_is_recognised_child_by_child(tmp_path: Path) -> None:
    found = find(several(tmp_path))
    assert [(c.source_path, c.label) for c in found.candidates] == [
        ("chest_xray/test/PNEUMONIA/person1_virus_6.jpeg", "Pneumonia"),
        ("chest_xray/train/NORMAL/IM-0001-0001.jpeg", "Normal"),
        ("covid-chestxray-dataset/images/a.jpg", "Covid19"),
        ("hospital/dataset/effusion/a.png", "Effusion"),
    ]
    assert found.tables == ["covid-chestxray-dataset/metadata.csv"]
    assert found.synthetic_sources == frozenset()


def test_files_outside_the_collections_are_accounted_for(tmp_path: Path) -> None:
    plant(several(tmp_path), "README.md", "unsorted/a.png")
    refused = [(c.source_path, c.refusal.reason) for c in find(tmp_path).candidates if c.refusal]
    assert refused == [("./README.md", "unknown-folder"), ("./unsorted/a.png", "unknown-folder")]


def test_collections_in_wrapping_folders_are_called_by_their_path(tmp_path: Path) -> None:
    plant(tmp_path / "archive/covid-master", "images/a.jpg", metadata_csv=COHEN)
    plant(tmp_path / "archive/cell/chest_xray", *KERMANY)
    assert list(find(tmp_path).missing_files) == ["archive/cell/chest_xray", "archive/covid-master"]


def test_class_folders_beside_a_published_collection_do_not_swallow_it(tmp_path: Path) -> None:
    plant(several(tmp_path), "normal/b.png")
    found = {c.source_path: c.label for c in find(tmp_path).candidates}
    assert found["normal/b.png"] == "Normal"
    assert found["covid-chestxray-dataset/images/a.jpg"] == "Covid19"


def test_a_stray_csv_beside_collections_does_not_make_a_dicom_folder(tmp_path: Path) -> None:
    plant(several(tmp_path), notes_csv="a,b\n")
    plant(tmp_path / "pacs", "x.dcm", labels_csv="filename,label\nx.dcm,Edema\n")
    assert "pacs/labels.csv" in find(tmp_path).tables


def test_data_that_is_absent_a_file_or_empty_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nothing of that name"):
        find(tmp_path / "absent")
    plant(tmp_path, "file.txt")
    with pytest.raises(SourceError, match="a file"):
        find(tmp_path / "file.txt")
    (tmp_path / "empty/deep").mkdir(parents=True)
    with pytest.raises(SourceError, match="without files"):
        find(tmp_path / "empty")


def test_nothing_recognised_says_what_was_seen_and_what_is_expected(tmp_path: Path) -> None:
    plant(tmp_path, "stuff/a.png", "notes.txt")
    with pytest.raises(SourceError) as caught:
        find(tmp_path)
    for part in ("Received: notes.txt, stuff/", "NIH ChestX-ray14", "Kermany", "a folder a class", "sources.toml"):
        assert part in str(caught.value)


def test_an_unreadable_csv_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    plant(tmp_path, "images/a.jpg", metadata_csv=COHEN + '2,"' + "x" * 200_000 + '",PA,X-ray,b.jpg\n')
    with pytest.raises(SourceError, match=r"readable CSV at .*metadata\.csv\. Received: field larger .* after line 2"):
        find(tmp_path)


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
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


def test_names_that_are_no_utf8_are_spelled_out(tmp_path: Path) -> None:
    folder = tmp_path / "data/covid"
    folder.mkdir(parents=True)
    (folder / b"caf\xe9.png".decode("utf-8", "surrogateescape")).touch()
    candidate = find(tmp_path / "data").candidates[0]
    assert candidate.source_path == "data/covid/caf\\xe9.png"
    assert candidate.path.exists()


def test_sources_toml_names_what_is_read(tmp_path: Path) -> None:
    several(tmp_path)
    plant(tmp_path / "exports/2020", "wet/a.png", "covid/b.png", "other/c.png")
    plant(
        tmp_path,
        sources_toml="""
            [sources.ours]
            path = "exports/2020"
            role = "external"
            labels = { Wet = "Edema" }
            [sources.cohen]
            path = "covid-chestxray-dataset"
        """,
    )
    found = [(c.source_path, c.label, c.role, bool(c.refusal)) for c in find(tmp_path).candidates]
    assert [item for item in found if not item[0].startswith("./")] == [
        ("cohen/images/a.jpg", "Covid19", "study", False),
        ("ours/covid/b.png", "Covid19", "external", False),
        ("ours/other/c.png", None, "external", True),
        ("ours/wet/a.png", "Edema", "external", False),
    ]


def roles(found: Found) -> dict[str, str]:
    return {candidate.source: candidate.role for candidate in found.candidates}


def test_sources_that_are_marked_external_keep_their_images_in_that_role(tmp_path: Path) -> None:
    found = find(plant(several(tmp_path), "unsorted/a.png"))
    marked = mark_external(found, ["hospital", "chest_xray"])
    assert roles(marked) == {
        ".": "study",
        "chest_xray": "external",
        "covid-chestxray-dataset": "study",
        "hospital": "external",
    }
    assert [c.source_path for c in marked.candidates] == [c.source_path for c in found.candidates]
    assert mark_external(found, []) == found


def test_a_source_that_is_not_there_cannot_be_marked(tmp_path: Path) -> None:
    found = find(plant(several(tmp_path), "unsorted/a.png"))
    with pytest.raises(SourceError, match=r"out of chest_xray, covid-chestxray-dataset, hospital\..*'hospitl', '\.'"):
        mark_external(found, ["hospitl", "hospital", "."])


def test_something_must_be_left_to_train_on(tmp_path: Path) -> None:
    found = find(plant(several(tmp_path), "unsorted/a.png"))
    with pytest.raises(SourceError, match="at least one source that is not external"):
        mark_external(found, ["hospital", "chest_xray", "covid-chestxray-dataset"])


def test_what_sources_toml_marks_external_is_not_left_to_train_on(tmp_path: Path) -> None:
    plant(
        several(tmp_path),
        sources_toml="""
        sources.hospital = { path = "hospital", role = "external" }
        sources.cell = { path = "chest_xray" }
    """,
    )
    with pytest.raises(SourceError, match="at least one source that is not external"):
        mark_external(find(tmp_path), ["cell"])


def test_what_no_source_of_sources_toml_holds_is_accounted_for(tmp_path: Path) -> None:
    data = plant(tmp_path / "data", "ours/covid/a.png", "other/covid/b.png", "c.png")
    outside = plant(tmp_path / "outside", "covid/d.png")
    (data / "linked").symlink_to(outside)
    plant(data, sources_toml=f'sources.ours = {{ path = "ours" }}\nsources.far = {{ path = "{outside}" }}')
    found = find(data)
    assert {c.source_path: c.refusal for c in found.candidates} == {
        "./c.png": Refusal("not-listed", "in no source of sources.toml"),
        "./other/covid/b.png": Refusal("not-listed", "in no source of sources.toml"),
        "far/covid/d.png": None,
        "ours/covid/a.png": None,
    }
    assert found.folders == (data / "ours", outside)


def test_sources_toml_labels_a_dicom_folder_or_names_its_table(tmp_path: Path) -> None:
    plant(tmp_path / "one", "a.dcm", "b")
    plant(tmp_path / "two", "c.dcm", "notes.csv", labels_csv="filename,label\nc.dcm,Edema\n")
    plant(tmp_path / "three", "d.dcm")
    plant(
        tmp_path,
        outside_csv="filename,label\nd.dcm,Fibrosis\n",
        sources_toml="""
            sources.one = { path = "one", label = "Covid19" }
            sources.two = { path = "two", table = "labels.csv" }
            sources.three = { path = "three", table = "outside.csv" }
        """,
    )
    found = find(tmp_path)
    assert {c.source_path: c.refusal.reason if c.refusal else c.label for c in found.candidates} == {
        "one/a.dcm": "Covid19",
        "one/b": "Covid19",
        "two/c.dcm": "Edema",
        "two/notes.csv": "not-listed",
        "three/d.dcm": "Fibrosis",
    }
    assert found.tables == ["outside.csv", "two/labels.csv"]


def test_sources_toml_may_name_the_folder_that_it_lies_in(tmp_path: Path) -> None:
    plant(tmp_path, "wet/a.png", sources_toml='sources.ours = { path = ".", labels = { wet = "Edema" } }')
    assert [(c.source_path, c.label) for c in find(tmp_path).candidates] == [("ours/wet/a.png", "Edema")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[source.a]\npath = "a"', "expected one of the keys sources"),
        ("[sources]", "expected tables"),
        ('[sources.a]\npath = "a"\nrol = "study"', r"sources\.a: expected one of the keys.*Did you mean 'role'"),
        ('[sources.a]\nrole = "study"', r"sources\.a: missing path"),
        ('[sources.a]\npath = "a"\nrole = "test"', "'study' or 'external'"),
        ('[sources.a]\npath = "a"\nlayout = "mimic"', "expected 'cohen', 'kermany',"),
        ('[sources.a]\npath = "a"\nlabel = "covid"', "label: expected one of Covid19"),
        ('[sources.a]\npath = "a"\nlabels = { wet = "Wet" }', r"labels\.wet: expected one of Covid19"),
        ('[sources.a]\npath = "a"\nlayout = "nih"\nlabel = "Edema"', "belong to the layout dicom"),
        ('[sources.a]\npath = "a"\nlayout = "nih"\nlabels = { wet = "Edema" }', "belongs to the layout class_folder"),
        ('[sources.a]\npath = "a"\nlabel = "Edema"\ntable = "a.csv"', "label or table"),
        ('[sources."a/b"]\npath = "a"', "without slashes"),
        ('[sources.a]\npath = "a"\n[sources.b]\npath = "a/covid"', "none lies in another"),
        ("[sources.a", "Expected TOML in"),
    ],
)
def test_what_sources_toml_must_not_say_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    plant(tmp_path, "a/covid/x.png", sources_toml=text)
    with pytest.raises(ConfigError, match=message) as caught:
        find(tmp_path)
    assert "sources.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[sources.a]\npath = "gone"', r"sources\.a: path: expected a folder"),
        ('[sources.a]\npath = "empty"', r"sources\.a: expected files"),
        ('[sources.a]\npath = "a"\ntable = "gone.csv"', r"sources\.a: table: expected a CSV"),
        ('[sources.a]\npath = "odd"', "expected a collection, or folders of collections"),
    ],
)
def test_what_sources_toml_names_must_be_there(tmp_path: Path, text: str, message: str) -> None:
    plant(tmp_path, "a/covid/x.png", "odd/x.png", sources_toml=text)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=message):
        find(tmp_path)


def _counts(found: Found) -> Counter[tuple[str, str]]:
    return Counter((c.source, c.refusal.reason if c.refusal else str(c.label)) for c in found.candidates)


@pytest.mark.real
def test_the_real_collections_have_the_counts_of_their_readme(real_data: Path) -> None:
    sources = real_data / "sources"
    found = find(sources)
    counts = _counts(found)
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
    assert found.missing_files["nih-chestxray14"] == 904 - 604


@pytest.mark.real
def test_every_real_file_is_a_candidate_or_a_table(real_data: Path) -> None:
    sources = real_data / "sources"
    found = find(sources)
    files = {path.relative_to(sources).as_posix() for path in sources.rglob("*") if path.is_file()}
    assert {c.source_path for c in found.candidates} | set(found.tables) == files
    assert len(found.candidates) + len(found.tables) == len(files)
    assert {c.refusal.reason for c in found.candidates if c.refusal} <= REASONS.keys()


@pytest.mark.real
def test_frontal_only_switched_off_takes_the_lateral_images_too(real_data: Path) -> None:
    found = find_candidates(real_data / "sources", SelectionConfig(frontal_only=False))
    assert _counts(found)["covid-chestxray-dataset", "Covid19"] == 381


@pytest.mark.real
def test_bad_files_and_originals_in_class_folders_are_all_candidates(real_data: Path, tmp_path: Path) -> None:
    shutil.copytree(real_data / "bad", tmp_path / "made/covid-19")
    shutil.copytree(real_data / "originals", tmp_path / "made/normal")
    shutil.copytree(real_data / "extras/nih_rotated90/images", tmp_path / "made/effusion/rotated")
    counts = _counts(find(tmp_path / "made"))
    assert counts == {("made", "Covid19"): 5, ("made", "Normal"): 32, ("made", "Effusion"): 16}
