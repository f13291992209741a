"""`cxr explain` on a small study of drawn images."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines import explain, phantoms
from tests.intake.files import dicom
from tests.serving.builders import image


def run(work: Path, image: str, *more: str) -> int:
    named = ["--study", str(work / "runs" / "t"), "--manifest", str(work / "manifest")]
    return explain.main([*named, "--image", image, "--out", str(work / "out" / "image.png"), *more])


def an_image(work: Path) -> dict[str, object]:
    row: dict[str, object] = pq.read_table(work / "runs" / "t" / "predictions.parquet").slice(5, 1).to_pylist()[0]
    return row


def test_an_image_of_the_study_is_explained_with_its_label(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = an_image(work)
    assert run(work, str(image["image_id"])) == 0
    output = capsys.readouterr().out
    assert f"labelled {image['label']}" in output
    assert "heatmap" in output
    assert str(work / "out" / "image.png") in output
    assert (work / "out" / "image.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_is_explained_by_all_folds_unless_it_is_an_image_of_the_study(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = work / "other"
    assert phantoms.main(["--out", str(other), "--per-class", "1", "--seed", "77", "--size", "224"]) == 0
    assert run(work, str(next(other.rglob("*.png")))) == 0
    output = capsys.readouterr().out
    assert "heatmap" in output
    assert "labelled" not in output

    table = pq.read_table(work / "manifest" / "images", columns=["image_id", "source_path"]).to_pylist()
    image = next(row for row in table if row["image_id"] == an_image(work)["image_id"])
    assert run(work, str(work / "images" / image["source_path"])) == 0
    assert f"{image['image_id']}: " in capsys.readouterr().out


def test_a_file_that_is_no_image_is_an_error(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "notes.png").write_text("no image")
    assert run(work, str(work / "notes.png")) == 2
    assert f"not-an-image: {work / 'notes.png'}" in capsys.readouterr().err


def test_a_file_that_the_studys_manifest_excludes_is_an_error(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "lateral.dcm").write_bytes(dicom(image(1), ViewPosition="LL"))
    assert run(work, str(work / "lateral.dcm")) == 2
    assert f"view: {work / 'lateral.dcm'}: not a frontal view (view LL)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("image", "more", "message"),
    [
        ("unknown", (), "Received: 'unknown'"),
        (None, ("--strategy", "fine-tuning-1"), "Expected a strategy of the study: scratch"),
        (None, ("--study", "nowhere"), "Expected the record of a study"),
    ],
)
def test_a_missing_image_strategy_or_study_is_exit_code_2(
    work: Path, capsys: pytest.CaptureFixture[str], image: str | None, more: tuple[str, ...], message: str
) -> None:
    assert run(work, image or str(an_image(work)["image_id"]), *more) == 2
    output = capsys.readouterr().err
    assert message in output
    assert "Traceback" not in output
