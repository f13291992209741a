"""The verb on a registry of its own; the clients behind it are in tests/serving: test_client.py, test_dicomweb.py."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_IMODE

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import generate_uid

from cxr_platform.errors import ServingError, StorageError
from cxr_platform.registry.store import Registry
from cxr_platform.serving import client, dicom_delivery, heatmap, schema
from cxr_platform.serving.schema import ScreenAnswer
from cxr_platform.serving.screener import Screener
from pipelines.screen import main
from tests.intake.files import dicom
from tests.serving.builders import image, image_png, registry_with_champion
from tests.serving.dicomweb_answers import JSON, part, study_metadata
from tests.serving.orthanc import Orthanc
from tests.serving.planned_server import planned_server


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("work")
    registry_with_champion(work / "registry")
    (work / "image.png").write_bytes(image_png())
    (work / "notes.png").write_text("no image")
    return work


def screen(work: Path, *files: str, more: tuple[str, ...] = ()) -> int:
    return main([*(str(work / file) for file in files), "--registry", str(work / "registry"), *more])


def test_the_table_shows_decision_model_and_notice(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert screen(work, "image.png") == 0
    output = capsys.readouterr().out
    assert "Covid19 probability is" in " ".join(output.replace("│", " ").split())
    assert "Model v1, scratch; trained on synthetic images" in output
    assert "Classes that an image may have: The set aims to contain the true class for 90 %" in output
    assert "For research, not for diagnosis." in output


@pytest.mark.parametrize(
    ("labels", "not_stated", "text"),
    [
        (["Effusion", "Normal"], [], "Classes it may have: Effusion, Normal."),
        (["Effusion"], ["Fibrosis"], "Classes it may have: Effusion. Without a threshold: Fibrosis."),
        ([], ["Fibrosis", "Edema"], "No class reaches its threshold. Without a threshold: Fibrosis, Edema."),
        ([], [], "No class reaches its threshold."),
    ],
)
def test_the_table_names_the_classes_that_an_image_may_have(
    work: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    labels: list[str],
    not_stated: list[str],
    text: str,
) -> None:
    found = {**schema._SCREENED["prediction_set"], "labels": labels, "not_stated": not_stated}
    answer = ScreenAnswer.model_validate_json(json.dumps({**schema._SCREENED, "prediction_set": found}))
    answer_from(monkeypatch, lambda _: answer)
    assert screen(work, "image.png", more=("--url", "http://server")) == 0
    output = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert text in output
    assert ("Without" in output) == ("Without" in text)


def answer_from(monkeypatch: pytest.MonkeyPatch, ask: Callable[[bytes], object]) -> None:
    """Let `ask` answer in place of a server."""

    @contextmanager
    def remote(url: str, key: str, explain: bool) -> Iterator[Callable[[bytes], object]]:
        yield ask

    monkeypatch.setattr(client, "remote_screen", remote)


def test_one_line_of_json_per_file_and_exit_code_1_if_one_has_no_answer(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert screen(work, "image.png", "notes.png", more=("--json",)) == 1
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["file"].endswith("image.png")
    assert sum(first["result"]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert second["problem"]["reason"] == "not-an-image"


def test_a_lateral_view_is_answered_as_not_screenable(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "lateral.dcm").write_bytes(dicom(image(1), ViewPosition="LL"))
    assert screen(work, "lateral.dcm", more=("--json",)) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert (result["decision"], result["findings"][0]["code"]) == ("not-screenable", "view")
    assert screen(work, "lateral.dcm") == 0
    output = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "not-screenable" in output
    assert "The image is not screenable" in output


def test_an_image_without_an_answer_has_a_row_with_the_reason(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert screen(work, "notes.png") == 1
    assert "no answer" in capsys.readouterr().out


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_answers_are_printed_even_if_the_server_goes_away(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    @contextmanager
    def remote(url: str, key: str, explain: bool) -> Iterator[Callable[[bytes], object]]:
        ask = client.local_screen(Screener(*Registry(work / "registry").open(), threads=1))
        turns = iter([ask, ask])

        def failing(data: bytes) -> object:
            turn = next(turns, None)
            if turn is None:
                raise ServingError(f"Expected a screening server at {url}.", received="connection refused")
            return turn(data)

        yield failing

    monkeypatch.setattr(client, "remote_screen", remote)
    for name in ("b.png", "c.png"):
        (work / name).write_bytes(image_png(1))
    assert screen(work, "image.png", "b.png", "c.png", more=("--url", "http://server", *more)) == 2
    output = capsys.readouterr()
    assert [name in output.out for name in ("image.png", "b.png", "c.png")] == [True, True, False]
    assert "connection refused" in output.err


@pytest.mark.parametrize(
    ("files", "more", "message"),
    [
        (("nowhere.png",), (), "Expected a readable image"),
        (("image.png", "nowhere.png"), (), "Expected a readable image"),
        (("image.png",), ("--version", "v9"), "v9"),
        (("image.png",), ("--registry", "nowhere"), "Expected a champion"),
        (("image.png",), ("--url", "http://127.0.0.1:9"), "make serve"),
    ],
)
def test_a_missing_file_champion_or_server_is_exit_code_2(
    work: Path, capsys: pytest.CaptureFixture[str], files: tuple[str, ...], more: tuple[str, ...], message: str
) -> None:
    assert screen(work, *files, more=more) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def radiograph(path: Path, study: str, **attributes: str) -> Path:
    uids = {name: generate_uid(prefix=None) for name in ("SOPInstanceUID", "SeriesInstanceUID")}
    path.write_bytes(dicom(image(1), StudyInstanceUID=study, **{**uids, **attributes}))
    return path


def test_answers_are_written_as_dicom(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    radiograph(work / "a.dcm", "1.2.3")
    assert screen(work, "a.dcm", more=("--sr", str(tmp_path / "new" / "reports"), "--json")) == 0
    answered = json.loads(capsys.readouterr().out)
    (file,) = answered["documents"]["files"]
    report = dcmread(file)
    assert (report.Modality, report.StudyInstanceUID) == ("SR", "1.2.3")
    assert answered["result"]["reason"] in report.to_json()
    assert list((tmp_path / "new" / "reports").iterdir()) == [Path(file)]


def test_a_heatmap_is_written_beside_the_report(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Network:
        def __init__(self, *_: object) -> None: ...

        def heatmap(self, *_: object) -> NDArray[np.float32]:
            return np.eye(4, dtype=np.float32)

    monkeypatch.setattr(heatmap, "HeatmapNetwork", Network)
    radiograph(work / "a.dcm", "1.2.3")
    assert screen(work, "a.dcm", more=("--sr", str(tmp_path), "--heatmap")) == 0
    assert {dcmread(file).Modality for file in tmp_path.iterdir()} == {"SR", "OT"}
    assert "2 written" in capsys.readouterr().out


def test_a_heatmap_that_the_server_does_not_have_is_named(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    local = client.local_screen(Screener(*Registry(work / "registry").open(), threads=1))
    answer_from(monkeypatch, local)
    radiograph(work / "a.dcm", "1.2.3")
    radiograph(work / "lateral.dcm", "1.2.3", ViewPosition="LL")
    more = ("--url", "http://server", "--sr", str(tmp_path), "--heatmap", "--json")
    assert screen(work, "a.dcm", "lateral.dcm", more=more) == 1
    first, second = [json.loads(line)["documents"] for line in capsys.readouterr().out.splitlines()]
    assert "No heatmap." in first["problem"]
    assert second["problem"] is None  # an image that is not screenable never has one
    assert {dcmread(file).Modality for file in tmp_path.iterdir()} == {"SR"}
    assert len(list(tmp_path.iterdir())) == 2


def test_other_users_cannot_read_reports_and_a_repeat_replaces_them(work: Path, tmp_path: Path) -> None:
    radiograph(work / "a.dcm", "1.2.3")
    folder = tmp_path / "new" / "reports"
    for _ in range(2):
        assert screen(work, "a.dcm", more=("--sr", str(folder))) == 0
    (file,) = folder.iterdir()
    assert S_IMODE(file.stat().st_mode) == 0o600
    assert [S_IMODE(made.stat().st_mode) for made in (folder, folder.parent)] == [0o700, 0o700]


def test_an_image_without_patient_and_study_is_answered_but_not_as_dicom(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "bare.dcm").write_bytes(dicom(image(1)))
    assert screen(work, "image.png", "bare.dcm", more=("--sr", str(tmp_path), "--json")) == 1
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["result"]["decision"]
    assert "needs a DICOM image" in first["documents"]["problem"]
    assert "valid SOP, Series and Study Instance UID" in second["documents"]["problem"]
    assert not list(tmp_path.iterdir())


def test_a_study_is_fetched_screened_and_the_answers_stored(
    work: Path, pacs: Orthanc, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = generate_uid(prefix=None)
    pacs.upload(radiograph(work / "a.dcm", study).read_bytes())
    monkeypatch.setenv("CXR_DICOMWEB_LOGIN", pacs.login)
    more = ("--wado", pacs.dicomweb, "--study", study, "--stow", pacs.dicomweb, "--json")
    assert screen(work, more=more) == 0
    answered = json.loads(capsys.readouterr().out)
    assert answered["file"] == dcmread(work / "a.dcm").SOPInstanceUID
    assert answered["documents"]["stored"]
    by_modality = {instance["Modality"]: instance for instance in pacs.instances(study)}
    assert set(by_modality) == {"DX", "SR"}
    assert screen(work, more=more) == 0
    assert len(pacs.instances(study)) == 2  # the repeated report is the same object
    assert answered["result"]["reason"] in json.dumps(by_modality["SR"]["ContentSequence"])


def test_an_image_that_the_server_does_not_return_has_a_problem_and_the_next_is_screened(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uids = {"SeriesInstanceUID": "1.2", "SOPInstanceUID": "1.2.2"}
    file = radiograph(work / "a.dcm", "1.2.3", **uids).read_bytes()
    with planned_server((200, JSON, study_metadata("1.2.1", "1.2.2")), (500, {}, b""), part(file)) as url:
        assert screen(work, more=("--wado", url, "--study", "1.2.3", "--json")) == 1
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["file"], first["problem"]["reason"]) == ("1.2.1", "not-fetched")
    assert "status 500" in first["problem"]["title"]
    assert (second["file"], second["result"]["model"]["version"]) == ("1.2.2", "v1")


def test_a_place_for_documents_that_cannot_be_stored_is_needed_before_the_first_image(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "not-stored").write_text("a file")
    with planned_server((401, {}, b"")) as url:
        assert screen(work, "image.png", more=("--stow", url)) == 2
    printed = capsys.readouterr()
    assert "folder not-stored" in printed.err
    assert "--sr" in printed.err
    assert "image.png" not in printed.out


def test_documents_that_are_lost_are_named_with_the_error_of_the_server(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("Expected to be able to write.", received="No space left on device")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dicom_delivery, "write_atomically", full)
    radiograph(work / "a.dcm", "1.2.3")
    failed = {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0x0124]}}]}}
    for answer, message in (
        ((401, {}, b""), "status 401"),
        ((409, JSON, json.dumps(failed).encode()), "not authorised"),
    ):
        with planned_server(answer) as url:
            assert screen(work, "a.dcm", more=("--stow", url)) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "No space left on device" in error


@pytest.mark.parametrize("reports", [(), ("--sr", "reports")])
def test_what_a_server_does_not_take_is_kept_in_a_folder(
    work: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    reports: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    radiograph(work / "a.dcm", "1.2.3")
    with planned_server((401, {}, b"")) as url:
        assert screen(work, "a.dcm", "image.png", more=("--stow", url, *reports)) == 2
    printed = capsys.readouterr()
    (file,) = (tmp_path / (reports[1] if reports else "not-stored")).iterdir()
    assert dcmread(file).Modality == "SR"
    assert file.name in printed.err
    assert "CXR_DICOMWEB_LOGIN" in printed.err
    assert "a.dcm" in printed.out


def test_a_document_that_a_server_refuses_is_kept_and_the_others_go_on(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.dcm", "b.dcm"):
        radiograph(work / name, "1.2.3")
    failed = {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0x0124]}}]}}
    answer = (409, {"Content-Type": "application/dicom+json"}, json.dumps(failed).encode())
    with planned_server(answer) as url:
        assert screen(work, "a.dcm", "b.dcm", more=("--stow", url, "--json")) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ["SR not stored: not authorised" in line["documents"]["problem"] for line in lines] == [True, True]
    kept = [file for line in lines for file in line["documents"]["files"]]
    assert sorted(kept) == sorted(str(file.relative_to(tmp_path)) for file in (tmp_path / "not-stored").iterdir())


@pytest.mark.parametrize(
    ("files", "more", "message"),
    [
        ((), (), "either files, or --wado"),
        (("image.png",), ("--wado", "http://pacs", "--study", "1.2"), "either files, or --wado"),
        ((), ("--wado", "http://pacs"), "with --study"),
        (("image.png",), ("--series", "1.2"), "with --study"),
        (("image.png",), ("--heatmap",), "--sr FOLDER"),
        (("image.png",), ("--stow", "pacs"), "like https://HOST/dicom-web"),
        (("image.png",), ("--sr", "/dev/null/reports"), "make the folder"),
    ],
)
def test_options_that_do_not_fit_together_are_exit_code_2(
    work: Path, capsys: pytest.CaptureFixture[str], files: tuple[str, ...], more: tuple[str, ...], message: str
) -> None:
    assert screen(work, *files, more=more) == 2
    assert message in capsys.readouterr().err


def test_a_wrong_uid_is_a_usage_error(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        screen(work, more=("--wado", "http://pacs", "--study", "1.2.x"))
    assert "--study" in capsys.readouterr().err
