"""Which manifest a study is opened on, and what is refused."""

import argparse
from pathlib import Path

import pytest

from cxr_platform.domain.study import read_study
from cxr_platform.errors import ManifestError, PredictionsError
from pipelines.opened_study import MANIFESTS, add_study_arguments, open_manifest_of, open_study
from tests.evaluation.builders import drawn_frame, write_study
from tests.evaluation.stored import rewritten, write_manifest

FRAME = drawn_frame({"scratch": 0.9, "off-the-shelf": 0.5}, folds=3, scale=0.02)
IMAGES = FRAME.drop_duplicates("image_id")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study whose manifest was called `manifest`, in a working directory without manifests."""
    monkeypatch.chdir(tmp_path)
    return write_study(tmp_path / "runs" / "test", FRAME)


def test_its_own_manifest_is_found_by_its_name(study: Path) -> None:
    stored = write_manifest(MANIFESTS / "manifest", IMAGES)
    steps: list[tuple[str, int, int]] = []
    opened = open_study(study, None, Path("weights.h5"), lambda *step: steps.append(step))
    assert opened.manifest.folder == stored.folder
    assert opened.winner == "scratch"
    assert opened.folder.root == study
    assert opened.named_weights == Path("weights.h5")
    opened.progress("Heatmaps", 1, 2)
    assert steps == [("Heatmaps", 1, 2)]


def test_a_named_manifest_goes_before_it(study: Path, tmp_path: Path) -> None:
    write_manifest(MANIFESTS / "manifest", IMAGES)
    elsewhere = write_manifest(tmp_path / "elsewhere", IMAGES)
    assert open_manifest_of(read_study(study), tmp_path / "elsewhere").folder == elsewhere.folder


def test_without_its_manifest_the_error_says_that_it_can_be_named(study: Path) -> None:
    with pytest.raises(ManifestError, match=r"manifests/manifest\. Received: no such folder.*--manifest names it"):
        open_study(study, None, None, print)


def test_a_manifest_that_was_named_is_not_asked_for_again(study: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        open_study(study, tmp_path / "nowhere", None, print)
    assert "--manifest" not in str(caught.value)


def test_a_manifest_of_other_images_is_refused(study: Path) -> None:
    write_manifest(MANIFESTS / "manifest", IMAGES)
    rewritten(study, manifest_content_hash="of-another-day")
    with pytest.raises(PredictionsError, match=r"of-another-day.*Received: b3f0c4de"):
        open_study(study, None, None, print)


def test_the_verbs_that_open_a_study_take_the_same_arguments() -> None:
    parser = argparse.ArgumentParser()
    add_study_arguments(parser)
    given = parser.parse_args(["--study", "runs/a", "--manifest", "m", "--imagenet-weights", "w.h5"])
    assert vars(given) == {"study": Path("runs/a"), "manifest": Path("m"), "imagenet_weights": Path("w.h5")}
