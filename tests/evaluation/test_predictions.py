import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cxr_platform.config import RobustConfig
from cxr_platform.domain.study import StudyRecord, read_study
from cxr_platform.errors import PredictionsError, StudyError
from cxr_platform.evaluation.predictions import (
    PROBABILITY_COLUMNS,
    Predictions,
    check_against_manifest,
    load_origin_predictions,
    load_predictions,
)
from cxr_platform.labels import CLASSES
from tests.evaluation.builders import drawn_frame, write_study
from tests.evaluation.origin_study import predictions as origin_predictions
from tests.evaluation.origin_study import write_origin_study

FRAME = drawn_frame({"off-the-shelf": 0.5, "scratch": 0.9}, folds=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_study(tmp_path, FRAME)


def load(folder: Path) -> Predictions:
    return load_predictions(folder, read_study(folder))


def store(folder: Path, frame: pd.DataFrame) -> None:
    frame.to_parquet(folder / "predictions.parquet", index=False)


def changed(mask: pd.Series, **values: object) -> pd.DataFrame:
    frame = FRAME.copy()
    for column, value in values.items():
        frame.loc[mask, column] = value
    return frame


def test_strategies_share_one_order_of_images(folder):
    store(folder, FRAME.sample(frac=1, random_state=np.random.RandomState(0)))

    loaded = load(folder)

    one = FRAME[FRAME["strategy"] == "scratch"].set_index("image_id")
    assert loaded.image_id.tolist() == sorted(one.index)
    for name, values in loaded.probability.items():
        rows = FRAME[FRAME["strategy"] == name].set_index("image_id").loc[loaded.image_id]
        assert np.array_equal(values, rows[list(PROBABILITY_COLUMNS)].to_numpy(dtype=float))
    assert [CLASSES[i] for i in loaded.label] == one.loc[loaded.image_id, "label"].tolist()
    assert loaded.fold.tolist() == one.loc[loaded.image_id, "fold"].tolist()


def test_a_study_without_predictions_says_how_to_get_them(folder):
    (folder / "predictions.parquet").unlink()

    with pytest.raises(PredictionsError, match=r"no file.*cross_validate"):
        load(folder)


def test_a_file_that_is_not_parquet_is_rejected(folder):
    (folder / "predictions.parquet").write_bytes(b"nothing of the kind")

    with pytest.raises(PredictionsError, match="Expected a Parquet file"):
        load(folder)


def test_missing_columns_are_named(folder):
    store(folder, FRAME.drop(columns=["p_Edema", "group_id"]))

    with pytest.raises(PredictionsError, match="columns group_id, p_Edema"):
        load(folder)


def test_a_missing_fold_is_named_with_its_strategy(folder):
    store(folder, FRAME[(FRAME["strategy"] != "scratch") | (FRAME["fold"] != 1)])

    with pytest.raises(PredictionsError, match=r"none for scratch fold 1.*finished trials are kept"):
        load(folder)


def test_a_missing_strategy_is_named(folder):
    store(folder, FRAME[FRAME["strategy"] != "off-the-shelf"])

    with pytest.raises(PredictionsError, match="off-the-shelf fold 0, off-the-shelf fold 1, off-the-shelf fold 2"):
        load(folder)


def test_a_duplicated_image_is_named_with_strategy_and_fold(folder):
    store(folder, pd.concat([FRAME, FRAME[FRAME["strategy"] == "scratch"].iloc[[4]]]))

    with pytest.raises(PredictionsError, match=r"duplicates in scratch, folds 2: 1 image \(image-00004\)"):
        load(folder)


def test_an_image_predicted_in_two_folds_is_a_duplicate(folder):
    extra = FRAME[FRAME["strategy"] == "scratch"].iloc[[4]].assign(fold=np.int32(0))
    store(folder, pd.concat([FRAME, extra]))

    with pytest.raises(PredictionsError, match="duplicates in scratch, folds 0, 2"):
        load(folder)


def test_an_image_that_one_strategy_lacks_is_named(folder):
    store(folder, FRAME[(FRAME["strategy"] != "scratch") | (FRAME["image_id"] != "image-00007")])

    with pytest.raises(PredictionsError, match=r"missing in scratch, folds 0: 1 image \(image-00007\)"):
        load(folder)


def test_only_the_first_of_many_images_are_named(folder):
    store(folder, pd.concat([FRAME, FRAME[FRAME["strategy"] == "scratch"].iloc[:9]]))

    with pytest.raises(PredictionsError, match=r"9 images \(image-00000, .*image-00004 and 4 more\)"):
        load(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.2, 0.9])
def test_an_invalid_probability_is_named_with_its_trial(folder, value):
    mask = (FRAME["strategy"] == "scratch") & (FRAME["image_id"] == "image-00000")
    store(folder, changed(mask, p_Edema=np.float32(value)))

    with pytest.raises(PredictionsError, match=r"1 invalid rows in scratch fold 0: 1 image \(image-00000\)"):
        load(folder)


def test_a_negative_value_is_invalid_even_if_the_sum_is_1(folder):
    mask = (FRAME["strategy"] == "scratch") & (FRAME["image_id"] == "image-00000")
    values = dict(zip(PROBABILITY_COLUMNS, np.float32([1.2, -0.2, 0, 0, 0, 0, 0]), strict=True))
    store(folder, changed(mask, **values))

    with pytest.raises(PredictionsError, match="1 invalid rows in scratch fold 0"):
        load(folder)


def test_rounding_of_half_precision_is_accepted(folder):
    frame = FRAME.copy()
    frame[list(PROBABILITY_COLUMNS)] = frame[list(PROBABILITY_COLUMNS)].to_numpy().astype(np.float16).astype(np.float32)
    store(folder, frame)

    assert len(load(folder).image_id) == len(FRAME) // 2


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("label", "Hernia", "label out of Covid19.*Hernia for 1 image"),
        ("strategy", "magic", "strategy out of off-the-shelf, scratch.*magic"),
        ("fold", 7, "fold out of 0, 1, 2.*7"),
        ("label", None, "1 rows with a missing value"),
        ("group_id", "group-x", "one group_id for each image"),
        ("source", "elsewhere", "one source for each image"),
        ("label", "Normal", "one label for each image"),
        ("fold", 2, "one fold for each image"),
    ],
)
def test_a_row_that_contradicts_the_study_or_the_other_strategies_is_rejected(folder, column, value, message):
    mask = (FRAME["strategy"] == "scratch") & (FRAME["image_id"] == "image-00000")
    store(folder, changed(mask, **{column: value}))

    with pytest.raises(PredictionsError, match=message):
        load(folder)


def split_group() -> pd.DataFrame:
    return changed(FRAME["image_id"] == "image-00001", fold=2)


def test_a_group_in_two_folds_is_an_error_under_the_grouped_protocol(tmp_path):
    folder = write_study(tmp_path, split_group(), protocol="grouped")

    with pytest.raises(PredictionsError, match="1 groups in several folds: group-00000"):
        load(folder)


def test_a_group_in_two_folds_is_accepted_under_the_paper_protocol(tmp_path):
    folder = write_study(tmp_path, split_group(), protocol="paper")

    assert len(load(folder).image_id) == len(FRAME) // 2


@pytest.fixture
def study(folder: Path) -> StudyRecord:
    return read_study(folder)


def manifest_table(frame: pd.DataFrame = FRAME) -> pa.Table:
    images = frame.drop_duplicates("image_id")[["image_id", "label"]].assign(role="study")
    external = pd.DataFrame({"image_id": ["outside"], "label": ["Normal"], "role": ["external"]})
    return pa.Table.from_pandas(pd.concat([images, external]), preserve_index=False)


def test_predictions_of_exactly_the_study_images_pass(folder, study):
    check_against_manifest(load(folder), study, manifest_table(), study.manifest.content_hash)


def test_another_manifest_is_refused(folder, study):
    with pytest.raises(PredictionsError, match=r"Expected the manifest b3f0c4de.*Received: other"):
        check_against_manifest(load(folder), study, manifest_table(), "other")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (FRAME[FRAME["image_id"] != "image-00003"], "1 images not in it: image-00003"),
        (FRAME.replace({"image_id": {"image-00003": "image-x"}}), "1 images without prediction: image-x"),
        (changed(FRAME["image_id"] == "image-00003", label="Edema"), "1 images of another label: image-00003"),
    ],
)
def test_images_that_differ_from_the_manifest_are_named(folder, study, frame, message):
    with pytest.raises(PredictionsError, match=message):
        check_against_manifest(load(folder), study, manifest_table(frame), study.manifest.content_hash)


def test_images_without_any_prediction_are_detected_by_their_number(folder: Path) -> None:
    path = folder / "study.json"
    tree = json.loads(path.read_text())
    load(folder)
    path.write_text(json.dumps({**tree, "manifest": {**tree["manifest"], "study_images": 9_999}}))
    with pytest.raises(PredictionsError, match="the 9999 study images of the manifest"):
        load(folder)


def origin_study(folder: Path, frame: pd.DataFrame | None = None) -> tuple[Path, StudyRecord]:
    made = origin_predictions({"scratch": {("west", "Normal"): "Covid19"}}) if frame is None else frame
    written = write_origin_study(folder / "origins", made)
    return written, read_study(written)


def test_an_image_is_predicted_once_for_each_origin_left_out(tmp_path: Path) -> None:
    frame = load_origin_predictions(*origin_study(tmp_path))
    assert len(frame) == 2 * frame["image_id"].nunique()
    assert set(zip(frame["fold"], frame["left_out"], strict=True)) == {(0, "east"), (1, "west")}
    assert (frame["origin"] == frame["source"]).all()


def test_out_of_fold_predictions_are_not_those_of_a_study_that_leaves_origins_out(tmp_path: Path) -> None:
    folder, study = origin_study(tmp_path)
    with pytest.raises(StudyError, match=r"predicted once.*Received: .*leaves out east, west in turn.*--origins"):
        load_predictions(folder, study)


def test_a_study_that_leaves_no_origin_out_is_not_read_as_one(folder: Path, study: StudyRecord) -> None:
    with pytest.raises(StudyError, match=r"with the protocol origins\. Received: grouped"):
        load_origin_predictions(folder, study)


def test_an_image_twice_without_one_origin_is_named(tmp_path: Path) -> None:
    frame = origin_predictions({"scratch": {}})
    folder, study = origin_study(tmp_path, pd.concat([frame, frame.head(1)]))
    with pytest.raises(PredictionsError, match=r"once per strategy and fold. Received: 1 image \(image-0000\)"):
        load_origin_predictions(folder, study)


def test_an_image_that_one_strategy_lacks_in_a_fold_is_named(tmp_path: Path) -> None:
    frame = origin_predictions({"scratch": {}, "off-the-shelf": {}})
    folder, study = origin_study(tmp_path, frame.iloc[:-1])
    with pytest.raises(PredictionsError, match=r"same images of fold 1.*some strategies lack 1 image \(image-0199\)"):
        load_origin_predictions(folder, study)


def test_answers_at_a_gate_are_those_of_the_strategy_that_has_one(folder):
    assert load(folder).indeterminate == {}
    frame = FRAME.assign(indeterminate=None)
    of_one = frame["strategy"] == "scratch"
    frame.loc[of_one, "indeterminate"] = frame["image_id"].str.endswith("1")
    store(folder, frame.sample(frac=1, random_state=np.random.RandomState(0)))

    loaded = load(folder)

    assert list(loaded.indeterminate) == ["scratch"]
    assert loaded.indeterminate["scratch"].tolist() == [name.endswith("1") for name in loaded.image_id]


def gated_study(folder: Path, gate: bool) -> tuple[Path, StudyRecord]:
    """A study of `robust` on three folds, and its record with or without a gate in the profile."""
    record = read_study(write_study(folder, drawn_frame({"scratch": 0.9, "robust": 0.8}, folds=3)))
    profile = replace(record.profile, robust=RobustConfig(gate=gate))
    return folder, record.model_copy(update={"profile": profile})


def test_a_study_with_a_gate_needs_the_answers_of_it_in_its_predictions(tmp_path: Path) -> None:
    advice = r"Delete .*trials/robust and run the same cross_validate command again"
    with pytest.raises(PredictionsError, match=rf"study 'test' has gate.*no such column for folds 0, 1, 2.*{advice}"):
        load_predictions(*gated_study(tmp_path, gate=True))
    assert load_predictions(*gated_study(tmp_path, gate=False)).indeterminate == {}


def test_predictions_of_a_gate_that_lack_its_answers_in_one_fold_name_the_fold(tmp_path: Path) -> None:
    folder, record = gated_study(tmp_path, gate=True)
    frame = pd.read_parquet(folder / "predictions.parquet")
    of_robust = frame["strategy"] == "robust"
    store(folder, frame.assign(indeterminate=np.where(of_robust & (frame["fold"] != 1), False, None)))
    with pytest.raises(PredictionsError, match="no value for folds 1: "):
        load_predictions(folder, record)
    store(folder, frame.assign(indeterminate=np.where(of_robust, False, None)))
    assert not load_predictions(folder, record).indeterminate["robust"].any()
