from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr_platform.errors import PredictionsError, StudyError
from cxr_platform.evaluation.report_inputs import load_report_inputs, read_pixels, undertrained
from cxr_platform.manifest.store import Manifest
from tests.evaluation import origin_study
from tests.evaluation.builders import drawn, image_frame, with_predictions, write_study
from tests.evaluation.stored import SIDE, rewritten, write_manifest
from tests.study_records import trial_record

IMAGES = image_frame({"Covid19": 40, "Normal": 300}, folds=2)
FRAME = with_predictions(IMAGES, "scratch", drawn(IMAGES, 0.8, seed=1))
EXTERNAL = IMAGES.iloc[:3].assign(
    image_id=["abroad-1", "abroad-2", "abroad-3"], role="external", source="abroad", fold=-1
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The study's images and three external ones, in three row groups."""
    images = pd.concat([IMAGES.assign(role="study"), EXTERNAL])
    return write_manifest(tmp_path_factory.mktemp("manifests") / "test", images)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path / "test", FRAME)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return write_study(tmp_path / "test-paper", FRAME, protocol="paper", name="test-paper")


def test_a_study_alone_has_no_images_and_no_evidence(study):
    inputs = load_report_inputs(study)

    assert inputs.study.name == "test"
    assert inputs.results.images == 340
    assert inputs.images is None
    assert inputs.other is None
    assert not inputs.evidence.parts
    assert not inputs.synthetic


def test_strategies_whose_loss_still_falls_on_average_are_undertrained():
    trials = [trial_record(fold=0, loss_fall=0.2), trial_record(fold=1, loss_fall=-0.02), None]
    assert undertrained([*trials, trial_record("off-the-shelf", loss_fall=0.01)]) == ("scratch",)
    assert undertrained([trial_record(loss_fall=0.04)]) == ()


def test_with_its_manifest_the_facts_of_every_image_are_there(study, manifest):
    images = load_report_inputs(study, manifest).images

    assert images.facts.loc["abroad-2", "source"] == "abroad"
    assert images.facts.loc["image-00003", "sex"] == "F"
    assert len(images.facts) == 343
    assert "pixels" not in images.facts
    assert images.info.excluded == {"low-contrast": 2, "view": 3}


def test_pixels_come_in_the_order_asked_for(study, manifest):
    pixels = load_report_inputs(study, manifest).images.pixels(
        ["abroad-1", "image-00300", "image-00002", "image-00300"]
    )

    assert pixels.dtype == np.uint8
    assert pixels.shape == (4, SIDE, SIDE)
    assert pixels[:, 0, 0].tolist() == [340 % 251, 300 % 251, 2, 300 % 251]
    assert load_report_inputs(study, manifest).images.pixels([]).shape == (0, SIDE, SIDE)


def test_only_what_is_needed_is_read(manifest, monkeypatch):
    read = []
    batches = Manifest.batches
    monkeypatch.setattr(Manifest, "batches", lambda *a: (read.append(b) or b for b in batches(*a)))

    read_pixels(manifest, ["image-00001"])

    assert len(read) == 1


def test_an_image_that_is_not_there_is_named(manifest):
    with pytest.raises(StudyError, match="no image 'image-99999' in it"):
        read_pixels(manifest, ["image-00001", "image-99999"])


def test_a_missing_fold_is_rejected(study, manifest):
    FRAME[FRAME["fold"] != 1].to_parquet(study / "predictions.parquet")

    with pytest.raises(PredictionsError, match="none for scratch fold 1"):
        load_report_inputs(study, manifest)


def test_a_duplicated_prediction_is_rejected(study, manifest):
    pd.concat([FRAME, FRAME.iloc[7:8]]).to_parquet(study / "predictions.parquet")

    with pytest.raises(PredictionsError, match=r"duplicates in scratch, folds 1: 1 image \(image-00007\)"):
        load_report_inputs(study, manifest)


def test_a_manifest_with_another_hash_is_rejected(study, tmp_path):
    rebuilt = write_manifest(tmp_path / "rebuilt", IMAGES, content_hash="0ther")

    with pytest.raises(PredictionsError, match=r"Expected the manifest b3f0c4de that study 'test' was run on.*0ther"):
        load_report_inputs(study, rebuilt)


def test_an_image_without_prediction_is_rejected(study, manifest):
    FRAME[FRAME["image_id"] != "image-00009"].to_parquet(study / "predictions.parquet")
    rewritten(study, manifest_study_images=339)

    with pytest.raises(PredictionsError, match="1 images without prediction: image-00009"):
        load_report_inputs(study, manifest)


def test_a_study_of_the_same_images_under_the_other_protocol_is_loaded(study, other):
    beside, scored = load_report_inputs(study, other_folder=other).other

    assert beside.protocol == "paper"
    assert len(scored.image_id) == 340


def test_another_study_of_another_manifest_is_rejected(study, other):
    rewritten(other, manifest_content_hash="0ther")

    with pytest.raises(StudyError, match=r"to be on the manifest b3f0c4de, like 'test'. Received: 0ther"):
        load_report_inputs(study, other_folder=other)


def test_another_study_under_the_same_protocol_is_rejected(study, other):
    rewritten(other, protocol="grouped")

    with pytest.raises(StudyError, match="both are 'grouped'"):
        load_report_inputs(study, other_folder=other)


def test_another_study_of_fewer_images_is_rejected(study, other):
    FRAME.iloc[4:].to_parquet(other / "predictions.parquet")
    rewritten(other, manifest_study_images=336)

    with pytest.raises(StudyError, match="4 images that only one of them has"):
        load_report_inputs(study, other_folder=other)


def test_another_study_that_is_incomplete_is_rejected(study, other):
    FRAME[FRAME["fold"] != 0].to_parquet(other / "predictions.parquet")

    with pytest.raises(PredictionsError, match="none for scratch fold 0"):
        load_report_inputs(study, other_folder=other)


def test_a_study_of_the_same_images_that_leaves_origins_out_is_loaded(tmp_path):
    images = origin_study.images()
    folds = np.arange(len(images)) % 2
    own = write_study(
        tmp_path / "t", with_predictions(images.assign(fold=folds), "scratch", np.zeros(len(images), int))
    )
    folder = origin_study.write_origin_study(tmp_path / "t-origins", origin_study.predictions({"scratch": {}}))

    found = load_report_inputs(own, origins_folder=folder)
    assert found.origins[0].left_out == origin_study.ORIGINS
    assert set(found.origins[1]["image_id"]) == set(images["image_id"])


def test_a_study_that_leaves_origins_out_of_other_images_is_rejected(study, tmp_path):
    folder = origin_study.write_origin_study(tmp_path / "t-origins", origin_study.predictions({"scratch": {}}))
    with pytest.raises(StudyError, match="images that only one of them has"):
        load_report_inputs(study, origins_folder=rewritten(folder, manifest_study_images=340))
    with pytest.raises(StudyError, match="join the same sources to origins"):
        load_report_inputs(study, origins_folder=rewritten(folder, manifest_origins={"west": "east"}))
    with pytest.raises(StudyError, match="on the manifest b3f0c4de"):
        load_report_inputs(study, origins_folder=rewritten(folder, manifest_content_hash="other"))
