"""The verb on a study of drawn images: a folder of other images, its predictions, its figures, its exit code."""

import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import ray

from cxr_platform.config import load_profile
from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.intake.layouts.phantoms import IMAGES_FOLDER
from cxr_platform.storage.mirror import local_copy
from pipelines import evaluate as verb
from tests.manifest.builders import fill_cache
from tests.pipelines.small_study import draw
from tests.storage.object_store import folder


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of another draw than the study's."""
    folder = tmp_path_factory.mktemp("unseen") / "images-9"
    draw(folder, per_class=2, seed=9)
    return folder


def run(work: Path, data: Path, *more: str, further: tuple[Path, ...] = (), outside: tuple[str, ...] = ()) -> int:
    folders = (data, *further)
    out = work / "runs" / "t" / "evaluations" / "-".join(folder.name for folder in folders)
    if data.is_dir():
        fill_cache(folders, out, load_profile(str(work / "tiny.toml"), {}), outside)
    named = ["--study", str(work / "runs" / "t"), "--manifest", str(work / "manifest"), "--data", *map(str, folders)]
    return verb.main([*named, *(["--outside", ",".join(outside)] if outside else []), *more])


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
    assert "| phantoms | Covid19 |" in (out / "figures.md").read_text()
    assert "other images of phantoms" in output.out
    pairs = pd.read_csv(out / "pairs.csv")
    assert set(pairs["counts"]) == {"one source"}
    assert len(pairs) == len(set(rows["label"])) - 1
    assert "no mean, as no pair is of two sources that are both of origins new" in (out / "pairs.md").read_text()


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two collections: one of Covid19 and one of Normal, and a folder of images of another disease."""
    folder = tmp_path_factory.mktemp("elsewhere") / "hospitals"
    draw(folder.parent / "drawn", per_class=3, seed=11)
    drawn = folder.parent / "drawn" / "phantoms"
    listed = pd.read_csv(drawn / "images.csv")
    for place, label in (("spain", "Covid19"), ("ohio", "Normal"), ("silicosis", "Fibrosis")):
        target = folder / place / (label if place != "silicosis" else "")
        target.mkdir(parents=True)
        for name in listed.loc[listed["label"] == label, "filename"]:
            (target / name).write_bytes((drawn / IMAGES_FOLDER / name).read_bytes())
    return folder


def test_sources_are_compared_pair_by_pair_with_images_of_another_disease(
    work: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(work, elsewhere, outside=("silicosis",)) == 0
    output = capsys.readouterr().out
    out = work / "runs" / "t" / "evaluations" / "hospitals"
    pairs = pd.read_csv(out / "pairs.csv").set_index(["Covid19 of", "Other images of", "Their class or finding"])
    assert set(pairs.index) == {("spain", "ohio", "Normal"), ("spain", "silicosis", "silicosis")}
    assert pairs["AUC"].between(0, 1).all()
    assert set(pairs["counts"]) == {"yes"}  # as all have few patients
    assert "over 2 pairs of two sources, of which none has 20 patients" in output
    assert output.count("the worst is Covid19 of spain against") == 1
    shares = pd.read_csv(out / "shares.csv").set_index(["Source", "Class or finding"])
    assert set(shares.index) == {("spain", "Covid19"), ("ohio", "Normal"), ("silicosis", "silicosis")}
    assert shares.filter(regex=r"^called \w+ \(%\)$").sum(axis=1).to_numpy() == pytest.approx(100)
    assert "| silicosis (%) |" in output
    answers = pd.read_csv(out / "answers.csv").set_index("source_path")
    of_silicosis = answers[answers.index.str.startswith("silicosis/")]
    assert of_silicosis["label"].isna().all()
    assert set(of_silicosis["finding"].dropna()) == {"silicosis"}


def test_folders_in_several_places_are_one_evaluation(
    work: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = elsewhere / "ohio", elsewhere / "silicosis"
    assert run(work, places[0], further=places[1:], outside=("silicosis",)) == 0
    output = capsys.readouterr().out
    out = work / "runs" / "t" / "evaluations" / "ohio-silicosis"
    assert set(pd.read_csv(out / "shares.csv")["Source"]) == {"ohio", "silicosis"}
    assert "No AUC of Covid19: none of the images are of Covid19." in output
    assert not (out / "pairs.csv").exists()


@pytest.mark.ray
def test_images_in_an_object_store_are_scored(
    store: dict[str, str], work: Path, elsewhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ray.shutdown()  # the workers of an instance that another test has left do not know the store
    with local_copy(folder("unseen")) as copy:
        shutil.copytree(elsewhere, copy)
    named = ["--study", str(work / "runs" / "t"), "--manifest", str(work / "manifest"), "--out", str(tmp_path / "out")]
    uri = "s3://images/unseen"
    assert verb.main([*named, "--data", f"{uri}/spain", f"{uri}/silicosis", "--outside", "silicosis"]) == 0
    assert set(pd.read_csv(tmp_path / "out" / "shares.csv")["Source"]) == {"spain", "silicosis"}
    assert verb.main([*named, "--data", f"{uri}/silicosis", "--unlabelled"]) == 0
    assert "predictions only, no figures" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--outside", "silicose"], "Expected outside sources out of the folders of"),
        (["--outside", "silicosis", "--unlabelled"], "Expected --unlabelled, for images of unknown classes"),
    ],
)
def test_an_unknown_outside_folder_and_contradicting_options_are_errors(
    work: Path, elsewhere: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(work, elsewhere, *more) == 2
    assert message in capsys.readouterr().err


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
