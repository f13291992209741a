"""The verb on a study of drawn images: a folder of other images, its predictions, its figures, its exit code."""

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from cxr_platform.config import load_profile
from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.intake.layouts.phantoms import IMAGES_FOLDER
from pipelines import evaluate as verb
from tests.manifest.builders import fill_cache
from tests.pipelines.small_study import draw


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of another draw than the study's."""
    folder = tmp_path_factory.mktemp("unseen") / "images-9"
    draw(folder, per_class=2, seed=9)
    return folder


def run(work: Path, data: Path, *more: str) -> int:
    out = work / "runs" / "t" / "evaluations" / data.name
    if data.is_dir():
        fill_cache(data, out, load_profile(str(work / "tiny.toml"), {}))
    named = ["--study", str(work / "runs" / "t"), "--data", str(data), "--manifest", str(work / "manifest")]
    return verb.main([*named, *more])


def test_unseen_images_are_scored_by_every_model(work: Path, unseen: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(work, unseen) == 0
    output = capsys.readouterr()
    out = work / "runs" / "t" / "evaluations" / "images-9"
    rows = pq.read_table(out / "predictions.parquet").to_pandas()
    images = rows["image_id"].nunique()
    assert len(rows) == images * 2 >= 20
    assert f"{images} images scored" in output.out
    assert "External images: 2/2" in output.err
    markdown = (out / "figures.md").read_text()
    assert "SYNTHETIC" in markdown
    assert "| sensitivity of Covid19 |" in output.out
    assert f"{out / 'figures.md'}" in output.out
    assert "sensitivity of Covid19" in (out / "figures.csv").read_text()
    assert (out / "excluded.csv").read_text().startswith("source_path,reason,detail\n")
    answers = pd.read_csv(out / "answers.csv").set_index("source_path")
    answered = answers[answers["answer"].notna()]
    assert sorted(answered.index) == sorted(rows["source_path"].unique())
    assert answered["probability"].to_numpy() == pytest.approx(
        rows.groupby("source_path")[list(PROBABILITY_COLUMNS)].mean().loc[answered.index].max(axis=1), abs=1e-5
    )
    assert set(answered["decision"]) <= {"positive", "negative", "indeterminate"}
    assert set(answered["label"]) == set(rows["label"])
    assert answers.loc[sorted(set(answers.index) - set(answered.index)), "reason"].notna().all()
    assert f"Answers, one row per file: {out / 'answers.csv'}" in output.out


@pytest.fixture
def loose(unseen: Path, tmp_path: Path) -> Path:
    """Three of the other images, without their table."""
    folder = tmp_path / "Normal"  # the builder of the cache takes the name for a class
    folder.mkdir()
    for file in sorted((unseen / "phantoms" / IMAGES_FOLDER).glob("*_0.png"))[:3]:
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_unlabelled_images_are_only_predicted(work: Path, loose: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = work / "runs" / "t" / "evaluations" / "Normal"
    out.mkdir(parents=True)
    (out / "figures.csv").write_text("of an earlier run with other images")
    assert run(work, loose, "--unlabelled") == 0
    rows = pq.read_table(out / "predictions.parquet")
    assert rows["label"].null_count == rows.num_rows >= 2
    answers = pd.read_csv(out / "answers.csv")
    assert sorted(answers["source_path"]) == sorted(f"Normal/{file.name}" for file in loose.iterdir())
    assert set(rows["source_path"].to_pylist()) == set(answers.loc[answers["answer"].notna(), "source_path"])
    assert answers["label"].isna().all()
    assert not (out / "figures.csv").exists()
    assert "predictions only, no figures" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("images", "Expected readable images"),
        ("nowhere", "Expected a folder of X-ray collections"),
    ],
)
def test_images_of_the_study_and_a_missing_folder_are_refused(
    work: Path, folder: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(work, work / folder) == 2
    error = capsys.readouterr().err
    assert message in error
    if folder == "images":
        out = work / "runs" / "t" / "evaluations" / folder
        assert ",in-study," in (out / "excluded.csv").read_text()
        assert not (out / "answers.csv").exists()
    assert "Traceback" not in error


def test_another_manifest_than_the_studys_is_refused(
    work: Path, unseen: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(work, unseen, "--manifest", str(work / "nothing")) == 2
    assert "Expected a manifest in" in capsys.readouterr().err
