import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cxr_platform.errors import BundleError
from cxr_platform.registry.bundle import DESCRIPTION, MEMBERS, ONNX, Figure, read_bundle, read_member, write_bundle
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


def test_numbers_of_numpy_become_plain_ones(tmp_path):
    write_members(tmp_path)
    write_bundle(tmp_path, make_bundle(metrics=make_bundle().metrics | {"brier": Figure(np.float64(0.25))}))

    assert read_bundle(tmp_path).metrics["brier"].value == 0.25


@pytest.mark.parametrize("name", [*MEMBERS, DESCRIPTION])
def test_one_changed_bit_is_refused_with_both_hashes(tmp_path, name):
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


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_anywhere_is_refused(tmp_path, data):
    write_one(tmp_path)
    known = sha256_of(tmp_path / DESCRIPTION)
    path = tmp_path / data.draw(st.sampled_from([*MEMBERS, DESCRIPTION]))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)

    with pytest.raises(BundleError):
        read_bundle(tmp_path, known)


@pytest.mark.parametrize("name", [*MEMBERS, DESCRIPTION])
def test_a_missing_file_is_refused_by_name(tmp_path, name):
    write_one(tmp_path)
    (tmp_path / name).unlink()

    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        read_bundle(tmp_path)


def test_a_shorter_file_is_refused_with_its_size(tmp_path):
    write_one(tmp_path)
    with (tmp_path / ONNX).open("r+b") as stream:
        stream.truncate(10)

    with pytest.raises(BundleError, match=r"Received: 10 bytes"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "model.onnx.data", "weights.pkl"])
def test_a_file_too_many_is_refused(tmp_path, name):
    write_one(tmp_path)
    (tmp_path / name).write_text("x")

    with pytest.raises(BundleError, match=f"also {name}"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("name", [*MEMBERS, DESCRIPTION])
def test_a_link_is_refused_though_its_bytes_are_right(tmp_path, name):
    write_one(tmp_path / "v1")
    (tmp_path / "v1" / name).rename(tmp_path / "elsewhere")
    (tmp_path / "v1" / name).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(BundleError, match="a symbolic link"):
        read_bundle(tmp_path / "v1")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_folder_or_a_pipe_in_place_of_a_file_is_refused(tmp_path, make):
    write_one(tmp_path)
    (tmp_path / ONNX).unlink()
    make(tmp_path / ONNX)

    with pytest.raises(BundleError, match="something else"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/hostname", "sub/model.onnx"])
def test_a_path_outside_the_folder_is_refused(tmp_path, name):
    write_one(tmp_path)
    edit(tmp_path, lambda tree: tree["files"].update({name: tree["files"].pop(ONNX)}))

    with pytest.raises(BundleError, match="expected files to be"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("version", [0, 1, 3, "2", None])
def test_another_schema_version_is_refused_before_anything_else(tmp_path, version):
    write_one(tmp_path)
    edit(tmp_path, lambda tree: tree.update(schema_version=version, further="key"))

    with pytest.raises(BundleError, match="expected schema_version 2"):
        read_bundle(tmp_path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.pop("temperature"), "the key temperature"),
        (lambda t: t.update(temperature=0), "temperature above 0"),
        (lambda t: t.update(temperature="1"), "temperature to be a finite number"),
        (lambda t: t.update(version="../v1"), "version v1"),
        (lambda t: t.update(created="yesterday"), "created to be an ISO time in UTC"),
        (lambda t: t.update(created="2026-01-31T12:00:00+02:00"), "created to be an ISO time in UTC"),
        (lambda t: t["labels"].reverse(), "labels Covid19"),
        (lambda t: t.update(positive_class="Normal"), "positive_class Covid19"),
        (lambda t: t["preprocessing"]["decoding"].pop("max_pixels"), "the key preprocessing.decoding.max_pixels"),
        (lambda t: t["preprocessing"]["quality"].update(typo=1), "preprocessing.quality to have the keys"),
        (lambda t: t["preprocessing"].update(input_size=200), "model.input_size as preprocessing.input_size"),
        (lambda t: t["operating_point"].update(zone=[0.3, 0.2]), "operating_point.zone from 0 to 1, rising"),
        (lambda t: t["operating_point"].update(threshold=25), "operating_point.threshold from 0 to 1"),
        (lambda t: t["operating_point"].update(target_sensitivity=95), "operating_point.target_sensitivity"),
        (lambda t: t["operating_point"].pop("decided"), "the key operating_point.decided"),
        (
            lambda t: t["operating_point"]["decided"]["found"].update(value=101),
            "operating_point.decided.found in percent",
        ),
        (
            lambda t: t["operating_point"]["decided"]["missed"].update(value=20),
            "operating_point.decided: found and missed no more than 100 together",
        ),
        (lambda t: t["metrics"].pop("accuracy_7_class"), "metrics to hold accuracy_7_class"),
        (lambda t: t["metrics"]["accuracy_7_class"].update(value=101), "metrics.accuracy_7_class from 0 to 100"),
        (lambda t: t["parity"].update(max_abs_difference=0.01), "parity.max_abs_difference from 0 to parity.tolerance"),
        (lambda t: t["study"].update(winner="best"), "study.winner to be one of study.strategies"),
        (lambda t: t.update(strategy="fine-tuning-1"), "strategy to be one of study.strategies"),
        (lambda t: t["files"][ONNX].update(sha256="x"), "files.model.onnx.sha256"),
    ],
)
def test_a_value_that_cannot_be_right_is_named(tmp_path, change, expected):
    write_one(tmp_path)
    edit(tmp_path, change)

    with pytest.raises(BundleError) as refusal:
        read_bundle(tmp_path)
    assert f"{tmp_path / DESCRIPTION}: expected {expected}" in str(refusal.value)


def test_nothing_is_written_of_a_bundle_that_could_not_be_read(tmp_path):
    write_members(tmp_path)

    with pytest.raises(BundleError, match="temperature above 0"):
        write_bundle(tmp_path, make_bundle(temperature=-1.0))
    with pytest.raises(BundleError, match="plain, finite values"):
        write_bundle(tmp_path, make_bundle(temperature=float("nan")))
    with pytest.raises(BundleError, match="plain, finite values"):
        write_bundle(tmp_path, make_bundle(temperature=np.float32(1.5)))

    assert not (tmp_path / DESCRIPTION).exists()


def test_a_member_that_was_not_made_is_refused_when_writing(tmp_path):
    write_members(tmp_path)
    (tmp_path / ONNX).unlink()

    with pytest.raises(BundleError, match=r"Expected model\.onnx"):
        write_bundle(tmp_path, make_bundle())


def test_a_member_is_handed_out_only_as_it_was_hashed(tmp_path):
    bundle = write_one(tmp_path)
    good = (tmp_path / ONNX).read_bytes()

    assert read_member(tmp_path, bundle, ONNX) == good
    (tmp_path / ONNX).write_bytes(good + b" ")
    with pytest.raises(BundleError, match="as it was made"):
        read_member(tmp_path, bundle, ONNX)


def test_no_bundle_at_all_is_one_error(tmp_path):
    with pytest.raises(BundleError, match=r"bundle\.json"):
        read_bundle(tmp_path / "absent")
