import json
from pathlib import Path

import pytest

from cxr_platform.errors import StudyError
from cxr_platform.evaluation.study import read_study
from tests.evaluation.builders import drawn_frame, write_study


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_study(tmp_path / "runs" / "test", drawn_frame({"scratch": 0.9, "off-the-shelf": 0.5}))


def rewrite(folder: Path, **changes: object) -> None:
    path = folder / "study.json"
    tree = json.loads(path.read_text())
    path.write_text(json.dumps({**tree, **changes}))


def test_strategies_are_read_in_the_order_of_the_paper(folder):
    assert read_study(folder).strategies == ("off-the-shelf", "scratch")


def test_strategies_that_were_not_run_are_known(folder):
    assert read_study(folder).not_run == tuple(f"fine-tuning-{k}" for k in (1, 3, 5, 7, 9, 11))


def test_further_fields_are_left_aside(folder):
    rewrite(folder, schema_version=1, identity={"a": 1})

    assert read_study(folder).folds == 5


def test_a_folder_without_a_study_says_what_to_give(tmp_path):
    with pytest.raises(StudyError, match=r"study\.json.*No such file.*runs/NAME"):
        read_study(tmp_path)


def test_text_that_is_no_json_is_refused(folder):
    (folder / "study.json").write_text("{")

    with pytest.raises(StudyError, match="Expected JSON"):
        read_study(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": "five"}, "'folds' of type int.*'five'"),
        ({"folds": 1}, "at least 2 folds.*1"),
        ({"strategies": ["off-the-shelf", "magic"]}, "strategies out of.*'magic'"),
        ({"strategies": []}, "strategies out of.*none"),
        ({"protocol": "random"}, "protocol out of grouped, paper.*'random'"),
        ({"manifest": {}}, "manifest: expected 'content_hash' of type str.*no such field"),
        ({"manifest": None}, "'manifest' of type dict"),
    ],
)
def test_a_field_that_cannot_be_used_is_named_with_what_stood_there(folder, changes, message):
    rewrite(folder, **changes)

    with pytest.raises(StudyError, match=message):
        read_study(folder)


def test_a_class_that_is_none_of_the_seven_is_refused(folder):
    tree = json.loads((folder / "study.json").read_text())
    rewrite(folder, manifest={**tree["manifest"], "counts": {"Hernia": {"nih": 3}}})

    with pytest.raises(StudyError, match=r"manifest\.counts.*'Hernia'"):
        read_study(folder)
