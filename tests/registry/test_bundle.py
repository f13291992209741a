import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_platform.domain.interval import Interval
from cxr_platform.errors import BundleError
from cxr_platform.evaluation.statistics.measures import FIGURES_OF_MERIT
from cxr_platform.registry.bundle import (
    DESCRIPTION,
    MEMBERS,
    ONNX,
    REQUIRED_METRICS,
    Bundle,
    read_bundle,
    read_member,
    write_bundle,
)
from tests.registry.builders import make_bundle, write_members, write_one


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    tree = json.loads((folder / DESCRIPTION).read_text())
    change(tree)
    (folder / DESCRIPTION).write_text(json.dumps(tree))


def test_a_bundle_is_read_as_it_was_written(tmp_path):
    written = write_one(tmp_path)

    assert read_bundle(tmp_path) == written
    assert read_bundle(tmp_path, sha256_of(tmp_path / DESCRIPTION)) == written
    assert {*written.files} == {*MEMBERS}
    assert pickle.loads(pickle.dumps(written)) == written  # it travels between Ray processes


def test_numpy_floats_are_written_as_numbers(tmp_path):
    write_members(tmp_path)
    write_bundle(
        tmp_path, make_bundle(metrics=make_bundle().metrics | {"brier": Interval(np.float64(0.25), ratio=True)})
    )

    assert read_bundle(tmp_path).metrics["brier"].value == 0.25


@pytest.mark.parametrize("name", [*MEMBERS, DESCRIPTION])
def test_one_changed_bit_is_an_error_with_both_hashes(tmp_path, name):
    write_one(tmp_path)
    known, content = sha256_of(tmp_path / DESCRIPTION), bytearray((tmp_path / name).read_bytes())
    before = hashlib.sha256(content).hexdigest()
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)

    with pytest.raises(BundleError) as refusal:
        read_bundle(tmp_path, known)

    assert f"Expected {tmp_path / name} as it was made, SHA-256 {before}" in str(refusal.value)
    assert refusal.value.received == hashlib.sha256(content).hexdigest()
    assert refusal.value.advice


@settings(max_examples=60)
@given(data=st.data())
def test_any_changed_byte_in_any_file_is_an_error(tmp_path, data):
    write_one(tmp_path)
    known = sha256_of(tmp_path / DESCRIPTION)
    path = tmp_path / data.draw(st.sampled_from([*MEMBERS, DESCRIPTION]))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)

    with pytest.raises(BundleError):
        read_bundle(tmp_path, known)


@pytest.mark.parametrize("name", [*MEMBERS, DESCRIPTION])
def test_a_missing_file_is_an_error_that_names_it(tmp_path, name):
    write_one(tmp_path)
    (tmp_path / name).unlink()

    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        read_bundle(tmp_path)


def test_a_truncated_file_is_an_error_with_its_size(tmp_path):
    write_one(tmp_path)
    with (tmp_path / ONNX).open("r+b") as stream:
        stream.truncate(10)

    with pytest.raises(BundleError, match=r"Received: 10 bytes"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "model.onnx.data", "weights.pkl"])
def test_an_additional_file_is_an_error(tmp_path, name):
    write_one(tmp_path)
    (tmp_path / name).write_text("x")

    with pytest.raises(BundleError, match=f"also {name}"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("name", [*MEMBERS, DESCRIPTION])
def test_a_symbolic_link_to_the_right_bytes_is_an_error(tmp_path, name):
    write_one(tmp_path / "v1")
    (tmp_path / "v1" / name).rename(tmp_path / "elsewhere")
    (tmp_path / "v1" / name).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(BundleError, match="a symbolic link"):
        read_bundle(tmp_path / "v1")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_folder_or_a_pipe_in_place_of_a_file_is_an_error(tmp_path, make):
    write_one(tmp_path)
    (tmp_path / ONNX).unlink()
    make(tmp_path / ONNX)

    with pytest.raises(BundleError, match="something else"):
        read_bundle(tmp_path)


@pytest.mark.parametrize(("strategy", "views"), [("scratch", ["whole"]), ("robust", None), ("robust", ["heart"])])
def test_views_are_those_of_robust_alone(tmp_path, strategy, views):
    write_one(tmp_path)
    edit(tmp_path, lambda tree: tree["study"].update(strategies=["scratch", "robust"]))
    edit(tmp_path, lambda tree: tree.update(strategy=strategy))
    edit(tmp_path, lambda tree: tree["preprocessing"].update(views=views))

    with pytest.raises(BundleError, match=r"preprocessing\.views"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/hostname", "sub/model.onnx"])
def test_a_path_outside_the_folder_is_an_error(tmp_path, name):
    write_one(tmp_path)
    edit(tmp_path, lambda tree: tree["files"].update({name: tree["files"].pop(ONNX)}))

    with pytest.raises(BundleError, match="files: expected model"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("version", [0, 5, 7, "6", None])
def test_another_schema_version_is_reported_before_an_unknown_key(tmp_path, version):
    write_one(tmp_path)
    edit(tmp_path, lambda tree: tree.update(schema_version=version, further="key"))

    with pytest.raises(BundleError, match="expected schema_version 6"):
        read_bundle(tmp_path)


def test_a_newer_schema_version_advises_to_update_the_platform(tmp_path):
    write_one(tmp_path)
    edit(tmp_path, lambda tree: tree.update(schema_version=7))

    with pytest.raises(BundleError, match="update this one"):
        read_bundle(tmp_path)


def test_a_repeated_key_and_a_number_that_is_not_finite_are_errors(tmp_path):
    write_one(tmp_path)
    content = (tmp_path / DESCRIPTION).read_bytes()

    (tmp_path / DESCRIPTION).write_bytes(content.replace(b'"temperature"', b'"strategy": "scratch", "temperature"'))
    with pytest.raises(BundleError, match="'strategy' twice"):
        read_bundle(tmp_path)
    (tmp_path / DESCRIPTION).write_bytes(content.replace(b'"temperature": 1.5', b'"temperature": NaN'))
    with pytest.raises(BundleError, match="NaN, which is not finite"):
        read_bundle(tmp_path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.pop("temperature"), "missing temperature"),
        (lambda t: t.update(temperature=0), "temperature: expected greater than 0"),
        (lambda t: t.update(temperature="1"), "temperature: expected a number"),
        (lambda t: t.update(version="../v1"), "version: expected a version: v1, v2, …"),
        (lambda t: t.update(created="yesterday"), "created: expected a datetime"),
        (lambda t: t.update(created="2026-01-31T12:00:00"), "created: expected timezone info"),
        (lambda t: t.update(created="2026-01-31T12:00:00+02:00"), "created: expected a time in UTC"),
        (lambda t: t["labels"].reverse(), "expected labels to be Covid19"),
        (lambda t: t.update(positive_class="Normal"), "expected positive_class to be Covid19"),
        (lambda t: t["preprocessing"]["decoding"].pop("max_pixels"), "missing preprocessing.decoding.max_pixels"),
        (lambda t: t["preprocessing"].pop("frontal_only"), "preprocessing: missing frontal_only"),
        (lambda t: t["preprocessing"]["quality"].update(typo=1), "preprocessing.quality: expected one of the keys"),
        (
            lambda t: t["preprocessing"].update(input_size=300),
            "preprocessing: expected input_size up to decoding.image_size, 200, not 300",
        ),
        (
            lambda t: t["preprocessing"].update(input_size=200),
            "expected model.input_size to be preprocessing.input_size, 200",
        ),
        (lambda t: t["operating_point"].update(zone=[0.3, 0.2]), "operating_point: expected zone to rise"),
        (lambda t: t["operating_point"].update(zone=[0.3, 1.2]), "operating_point.zone.1: expected less than or equal"),
        (lambda t: t["operating_point"].update(threshold=25), "operating_point.threshold: expected less than or equal"),
        (lambda t: t["operating_point"].update(target_sensitivity=95), "operating_point.target_sensitivity: expected"),
        (lambda t: t["operating_point"].pop("decisions"), "operating_point: missing decisions"),
        (
            lambda t: t["operating_point"]["decisions"]["true_positive"].update(value=101),
            "operating_point.decisions.true_positive: expected percent from 0 to 100, not 101",
        ),
        (
            lambda t: t["operating_point"]["decisions"]["true_positive"].pop("low"),
            "missing operating_point.decisions.true_positive.low",
        ),
        (
            lambda t: t["operating_point"]["decisions"]["false_negative"].update(value=20),
            "operating_point.decisions: expected true_positive and false_negative of at most 100 % together, not 105",
        ),
        (
            lambda t: t["operating_point"]["specificity"].update(ratio=True),
            "operating_point.specificity: expected perc",
        ),
        (lambda t: t["metrics"].pop("accuracy_7_class"), "expected metrics to hold accuracy_7_class"),
        (lambda t: t["metrics"]["accuracy_7_class"].update(value=101), "metrics.accuracy_7_class: expected percent"),
        (lambda t: t["metrics"]["roc_auc"].update(value=97), "metrics.roc_auc: expected a ratio from 0 to 2, not 97"),
        (lambda t: t["parity"].update(max_abs_difference=0.01), "parity: expected max_abs_difference up to tolerance"),
        (lambda t: t["study"].update(winner="best"), "study: expected winner to be one of strategies, not 'best'"),
        (lambda t: t["study"].update(folds=1), "study.folds: expected greater than or equal to 2"),
        (lambda t: t["study"].update(manifest_hash=""), "study.manifest_hash: expected at least 1 character"),
        (lambda t: t["training"].update(epochs=0), "training.epochs: expected greater than or equal to 1"),
        (lambda t: t.update(strategy="fine-tuning-1"), "expected strategy to be one of study.strategies"),
        (lambda t: t["files"][ONNX].update(sha256="x"), "files.model.onnx.sha256: expected pattern"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_its_key(tmp_path, change, expected):
    write_one(tmp_path)
    edit(tmp_path, change)

    with pytest.raises(BundleError) as refusal:
        read_bundle(tmp_path)
    assert f"{tmp_path / DESCRIPTION}: {expected}" in str(refusal.value)
    assert refusal.value.advice


def test_an_undefined_metric_is_valid():
    metrics = make_bundle().metrics | {"sensitivity": Interval(None)}
    assert Bundle(**{**dict(make_bundle()), "metrics": metrics}).metrics == metrics


def test_the_required_metrics_are_measures_of_the_report():
    assert {*REQUIRED_METRICS} <= {*FIGURES_OF_MERIT}


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"temperature": "1.5"},
        {"metrics": make_bundle().metrics | {"roc_auc": Interval(float("nan"), ratio=True)}},
    ],
)
def test_an_invalid_bundle_is_not_written(tmp_path, changes):
    write_members(tmp_path)

    with pytest.raises(BundleError, match="nothing was written"):
        write_bundle(tmp_path, make_bundle(**changes))
    assert not (tmp_path / DESCRIPTION).exists()


def test_a_bundle_without_one_of_its_files_is_not_written(tmp_path):
    write_members(tmp_path)
    (tmp_path / ONNX).unlink()

    with pytest.raises(BundleError, match=r"Expected model\.onnx"):
        write_bundle(tmp_path, make_bundle())


def test_a_changed_member_is_not_read(tmp_path):
    bundle = write_one(tmp_path)
    good = (tmp_path / ONNX).read_bytes()

    assert read_member(tmp_path, bundle, ONNX) == good
    (tmp_path / ONNX).write_bytes(good + b" ")
    with pytest.raises(BundleError, match="as it was made"):
        read_member(tmp_path, bundle, ONNX)


def test_a_folder_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(BundleError, match=r"bundle\.json"):
        read_bundle(tmp_path / "absent")
