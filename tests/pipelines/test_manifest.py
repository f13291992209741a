"""The verb as a person runs it: what it prints and its exit code."""

from pathlib import Path

import pytest

from cxr_platform.manifest.schema import Shortfall
from cxr_platform.manifest.store import open_manifest
from pipelines import manifest as verb
from tests.manifest.builders import fill_cache, image, profile, save, write_collection
from tests.manifest.info import manifest_info


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_collection(tmp_path_factory.mktemp("data"))


def run(data: Path, out: Path, *more: str) -> int:
    return verb.main(["--data", str(data), "--out", str(out), "--folds", "2", *more])


def test_counts_reasons_and_the_place_of_the_manifest_are_printed(
    collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "manifest"
    fill_cache(collection, out, profile())
    assert run(collection, out, "--metrics-dir", str(tmp_path / "metrics")) == 0
    printed = capsys.readouterr().out
    info = open_manifest(out).info
    assert f"Images: 0 to decode, {info.files} from the cache" in printed
    assert f"Writing images: {info.images}/{info.images}" in printed
    assert [line.split() for line in printed.splitlines() if line.startswith("Covid19 ")] == [
        ["Covid19", "4", "2", "6"]
    ]
    assert f"{info.images} images selected + 5 excluded = {info.files} files." in printed
    assert "      2  conflicting-label" in printed
    assert str(out) in printed.splitlines()[-1]
    counted = (tmp_path / "metrics" / "cxr_manifest_manifest.prom").read_text()
    assert 'cxr_manifest_excluded_files{reason="conflicting-label",study="manifest"} 2.0' in counted


def test_a_look_prints_the_counts_and_that_there_is_no_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_collection(tmp_path / "data"), tmp_path / "manifest"
    for file in (data / "classes" / "Emphysema").iterdir():
        file.write_text("no image")
    (data / "classes" / "Tumour").mkdir()
    for number in range(3):
        (data / "classes" / "Tumour" / f"{number}.png").write_text("no image")
    fill_cache(data, out, profile())
    assert run(data, out, "--look") == 0
    printed = capsys.readouterr().out
    assert "Excluded of Emphysema: 4 not-an-image." in printed
    assert "Without a class, unknown-folder: 3 folder Tumour names none of the seven classes." in printed
    assert "A build of these images would fail. Expected at least 2 groups" in printed
    assert "no manifest was written" in printed
    assert printed.splitlines()[-1] == f"Excluded files, contact sheets and counts: {out}.look"
    assert not out.exists()
    assert run(data, out) == 2  # without the option a class without images is an error


def test_a_look_has_no_manifest_to_describe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "data", tmp_path / "manifest", "--look", "--croissant") == 2
    assert capsys.readouterr().err.startswith("Expected --look, which writes no manifest, or --croissant")


def test_the_summary_lists_shortfalls_missing_files_and_synthetic_images() -> None:
    info = manifest_info(
        counts={"Normal": {"phantoms": 3}},
        contrast={"phantoms": 2},
        shortfalls=(Shortfall(label="Normal", wanted=9, available=3),),
        missing_files={"phantoms": 2, "other": 0},
        synthetic=True,
        ignored_columns={"phantoms": ["Krankennummer"]},
        known_patients={"phantoms": 1},
        shared_patients={"phantoms": 2},
    )
    printed = "\n".join(verb.summary(info))
    assert "Fewer than asked for: Normal 3 of 9." in printed
    assert "phantoms: 2 rows of the table have no file." in printed
    assert "phantoms: columns of the table that are not read: Krankennummer." in printed
    assert "phantoms: the patient is known for 1 of 5 images (20%)." in printed
    assert "phantoms: 2 contrast images" in printed
    assert "phantoms: 2 images have one identifier" in printed
    assert "other" not in printed
    assert "synthetic" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--folds", "9"], "at least 9 groups"),
        (["--folds", "1"], "folds: expected"),
        (["--profile", "fast"], "Expected a profile name"),
        (["--overrule", "nowhere.toml"], "nowhere.toml"),
        (["--external", "cohne"], "external sources out of classes, cohen. Received: 'cohne'"),
        (["--external", "classes,cohen"], "at least one source that is not external"),
    ],
)
def test_a_request_that_cannot_be_met_is_one_line_and_exit_code_2(
    collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    fill_cache(collection, tmp_path / "manifest", profile())
    assert run(collection, tmp_path / "manifest", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_external_sources_are_in_no_fold(collection: Path, tmp_path: Path) -> None:
    fill_cache(collection, tmp_path / "manifest", profile())
    assert run(collection, tmp_path / "manifest", "--external", "cohen") == 0
    table = open_manifest(tmp_path / "manifest").table(["source", "role"])
    assert {(row["source"], row["role"]) for row in table.to_pylist()} == {("classes", "study"), ("cohen", "external")}


def test_several_folders_and_outside_sources_are_taken(
    collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tb, out = tmp_path / "tb", tmp_path / "manifest"
    for number in range(2):
        save(image(4000 + number), tb / f"{number}.png")
    name = collection.name
    fill_cache([collection, tb], out, profile(), ["tb"])
    assert run(collection, out, "--data", str(tb), "--outside", "tb") == 0
    table = open_manifest(out).table(["source", "role"])
    roles = {(f"{name}/classes", "study"), (f"{name}/cohen", "study"), ("tb", "outside")}
    assert {(row["source"], row["role"]) for row in table.to_pylist()} == roles
    assert "tb: 2 images outside the seven classes; only scored." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--data", "{collection}"], "none is given twice or lies in another"),
        (["--outside", "cohne"], "outside sources out of the folders of"),
    ],
)
def test_a_folder_twice_and_an_unknown_outside_source_are_errors(
    collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert run(collection, tmp_path / "manifest", *(text.format(collection=collection) for text in more)) == 2
    assert message in capsys.readouterr().err


def test_an_empty_folder_and_an_unwritable_place_are_errors(
    collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", tmp_path / "manifest") == 2
    (tmp_path / "file").write_text("")
    assert run(collection, tmp_path / "file" / "manifest") == 2
    assert "Traceback" not in capsys.readouterr().err
