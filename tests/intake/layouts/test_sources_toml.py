from pathlib import Path

import pytest

from cxr_platform.errors import ConfigError, SourceError
from cxr_platform.intake.candidate import Refusal
from tests.intake.layouts.collections_on_disk import plant
from tests.intake.test_sources import find, several


def test_sources_toml_selects_the_folders_that_are_read(tmp_path: Path) -> None:
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
    inventory = [(c.source_path, c.label, c.role, bool(c.refusal)) for c in find(tmp_path).candidates]
    assert [item for item in inventory if not item[0].startswith("./")] == [
        ("cohen/images/a.jpg", "Covid19", "study", False),
        ("ours/covid/b.png", "Covid19", "external", False),
        ("ours/other/c.png", None, "external", True),
        ("ours/wet/a.png", "Edema", "external", False),
    ]


def test_files_outside_the_declared_sources_are_not_listed(tmp_path: Path) -> None:
    data = plant(tmp_path / "data", "ours/covid/a.png", "other/covid/b.png", "c.png")
    outside = plant(tmp_path / "outside", "covid/d.png")
    (data / "linked").symlink_to(outside)
    plant(data, sources_toml=f'sources.ours = {{ path = "ours" }}\nsources.far = {{ path = "{outside}" }}')
    inventory = find(data)
    assert {c.source_path: c.refusal for c in inventory.candidates} == {
        "./c.png": Refusal("not-listed", "in no source of sources.toml"),
        "./other/covid/b.png": Refusal("not-listed", "in no source of sources.toml"),
        "far/covid/d.png": None,
        "ours/covid/a.png": None,
    }
    assert inventory.folders == (data / "ours", outside)


def test_a_source_may_have_one_label_or_a_table(tmp_path: Path) -> None:
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
    inventory = find(tmp_path)
    assert {c.source_path: c.refusal.reason if c.refusal else c.label for c in inventory.candidates} == {
        "one/a.dcm": "Covid19",
        "one/b": "Covid19",
        "two/c.dcm": "Edema",
        "two/notes.csv": "not-listed",
        "three/d.dcm": "Fibrosis",
    }
    assert inventory.tables == ["outside.csv", "two/labels.csv"]


def test_a_source_may_be_the_folder_of_sources_toml(tmp_path: Path) -> None:
    plant(tmp_path, "wet/a.png", sources_toml='sources.ours = { path = ".", labels = { wet = "Edema" } }')
    assert [(c.source_path, c.label) for c in find(tmp_path).candidates] == [("ours/wet/a.png", "Edema")]


def test_only_files_that_fit_a_pattern_may_be_images(tmp_path: Path) -> None:
    plant(tmp_path, "a/covid/1.png", "a/covid/2p.png", "a/covid/1-mask.png")
    plant(tmp_path, sources_toml='sources.a = { path = "a", files = ["covid/*[!pk].png"] }')
    refusal = Refusal("not-listed", "none of the files covid/*[!pk].png")
    candidates = {c.source_path: c.refusal or c.label for c in find(tmp_path).candidates}
    assert candidates == {"a/covid/1-mask.png": refusal, "a/covid/1.png": "Covid19", "a/covid/2p.png": refusal}


def test_the_origin_of_a_source_is_that_of_the_file_before_that_of_a_public_collection(tmp_path: Path) -> None:
    table = "Image Index,Finding Labels,Patient ID\na.png,Edema,1\n"
    for name in ("one", "two"):
        plant(tmp_path / name, "images/a.png", **{"Data_Entry_2017_v2020_csv": table})
    plant(tmp_path / "three", "covid/a.png")
    assert find(tmp_path).origins == {"one": "NIH", "two": "NIH"}
    toml = 'sources.a = { path = "one", origin = "Ours" }\nsources.b = { path = "two" }\nsources.c = { path = "three" }'
    plant(tmp_path, sources_toml=toml)
    assert find(tmp_path).origins == {"a": "Ours", "b": "NIH"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[source.a]\npath = "a"', "expected one of the keys sources"),
        ("[sources]", "expected at least one table"),
        ('[sources.a]\npath = "a"\nrol = "study"', r"sources\.a: expected one of the keys.*Did you mean 'role'"),
        ('[sources.a]\nrole = "study"', r"sources\.a: missing path"),
        ('[sources.a]\npath = "a"\nrole = "test"', "'study' or 'external'"),
        (
            '[sources.a]\npath = "a"\nreader_labels = { table = "t.csv", classes = { x = "Wet" } }',
            r"sources\.a\.reader_labels\.classes\.x: expected one of Covid19.*Received: 'Wet'",
        ),
        ('[sources.a]\npath = "a"\nreader_labels = "t.csv"', r"sources\.a\.reader_labels: expected a table"),
        ('[sources.a]\npath = "a"\nreader_labels = {}', r"sources\.a\.reader_labels: missing table"),
        ('[sources.a]\npath = "a"\norigin = ""', r"sources\.a\.origin: expected at least 1 character\. Received: ''"),
        ('[sources.a]\npath = "a"\norigin = 1', r"sources\.a\.origin: expected a string\. Received: 1\. The keys are"),
        ('[sources.a]\npath = "a"\nfiles = "*.png"', r"sources\.a\.files: expected a list\. Received: '\*\.png'"),
        ('[sources.a]\npath = "a"\nlayout = "mimic"', "expected 'cohen', 'kermany',"),
        ('[sources.a]\npath = "a"\nlabel = "covid"', "label: expected one of Covid19"),
        ('[sources.a]\npath = "a"\nlabels = { wet = "Wet" }', r"labels\.wet: expected one of Covid19"),
        (
            '[sources.a]\npath = "a"\nlayout = "nih"\nlabel = "Edema"',
            "label and table only with the layout dicom, not 'nih'",
        ),
        (
            '[sources.a]\npath = "a"\nlayout = "nih"\nlabels = { wet = "Edema" }',
            "labels only with the layout class_folder, not 'nih'",
        ),
        ('[sources.a]\npath = "a"\noutside = true\nrole = "external"', "role or outside = true, not both"),
        ('[sources.a]\npath = "a"\noutside = true\nlabel = "Edema"', "no label, labels or reader_labels with outside"),
        ('[sources.a]\npath = "a"\noutside = true\nlayout = "kermany"', "one of the layouts cohen, nih, dicom"),
        ('[sources.a]\npath = "a"\noutside = "yes"', r"sources\.a\.outside: expected"),
        ('[sources."a/b"]\npath = "a"', "without slashes, not 'a/b'"),
        ('[sources.a]\npath = "a"\n[sources.b]\npath = "a/covid"', "none lies in another"),
        ("[sources.a", "Expected TOML in"),
    ],
)
def test_an_invalid_sources_toml_is_an_error(tmp_path: Path, text: str, message: str) -> None:
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
        ('[sources.a]\npath = "a"\nfiles = ["*.jpg"]', r"sources\.a: files: expected patterns.*fit none of 1 files"),
        ('[sources.a]\npath = "odd"', "expected a collection, or folders of collections"),
    ],
)
def test_declared_folders_and_tables_must_exist(tmp_path: Path, text: str, message: str) -> None:
    plant(tmp_path, "a/covid/x.png", "odd/x.png", sources_toml=text)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=message):
        find(tmp_path)
