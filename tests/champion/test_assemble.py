"""A version of the registry: whole, checked, with the study's figures; or nothing."""

import json
from pathlib import Path

import numpy as np
import pytest

from cxr_platform.champion.assemble import Assembled, assemble
from cxr_platform.champion.export import onnx_answers
from cxr_platform.champion.facts import out_of_fold
from cxr_platform.errors import BundleError, StudyMismatch
from cxr_platform.labels import CLASSES
from cxr_platform.monitoring.reference import parse_reference
from cxr_platform.registry.bundle import Bundle
from cxr_platform.registry.store import Registry
from tests.champion.builders import COUNTS, FOLDS, HASH, MODEL, SIDE, made, material

IMAGES = sum(COUNTS.values())


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return Registry(tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="module")
def assembled(registry: Registry) -> Assembled:
    parts = material()
    return assemble(parts, out_of_fold(parts.study, parts.predictions, "scratch"), registry)


@pytest.fixture(scope="module")
def opened(registry: Registry, assembled: Assembled) -> tuple[Path, Bundle]:
    return registry.open(assembled.bundle.version)


def test_the_first_version_is_whole_and_not_yet_the_champion(registry: Registry, opened: tuple[Path, Bundle]) -> None:
    folder, _ = opened
    assert registry.versions() == ("v1",)
    assert registry.champion() is None
    assert sorted(file.name for file in folder.iterdir()) == [
        "MODEL_CARD.md", "bundle.json", "model.onnx", "model.weights.h5", "reference.json",
    ]  # fmt: skip
    assert (folder / "model.weights.h5").read_bytes() == made().weights.read_bytes()


def test_the_bundle_states_the_studys_out_of_fold_figures(opened: tuple[Path, Bundle]) -> None:
    bundle, parts = opened[1], material()
    facts = out_of_fold(parts.study, parts.predictions, "scratch")
    assert bundle.metrics == facts.measures.pooled
    point = bundle.operating_point
    assert (point.threshold, point.zone, point.target_sensitivity) == (facts.threshold, facts.zone, 0.95)
    assert (point.sensitivity.value, point.specificity.value) == (
        facts.point.sensitivity.value,
        facts.point.specificity.value,
    )
    assert bundle.temperature == facts.temperature
    assert point.decisions == facts.decisions


def test_the_bundle_says_where_it_comes_from(opened: tuple[Path, Bundle]) -> None:
    bundle = opened[1]
    assert (bundle.study.manifest_hash, bundle.study.images, bundle.study.folds) == (HASH, IMAGES, FOLDS)
    assert (bundle.study.winner, bundle.strategy) == ("scratch", "scratch")
    assert (bundle.training.epochs, bundle.training.seed, bundle.training.backend) == (3, 2020, "tensorflow")
    assert bundle.model == MODEL
    assert bundle.parity.images == IMAGES
    assert 0 < bundle.parity.max_abs_difference < 1e-5


def test_preprocessing_is_the_manifests_own_and_not_the_profiles(opened: tuple[Path, Bundle]) -> None:
    preprocessing = opened[1].preprocessing
    assert material().profile.intake.decoding.image_size == 200
    assert (preprocessing.decoding.image_size, preprocessing.input_size) == (SIDE, SIDE)


def test_its_reference_judges_the_features_that_its_graph_gives(opened: tuple[Path, Bundle]) -> None:
    folder, parts = opened[0], material()
    reference = parse_reference((folder / "reference.json").read_bytes(), "reference.json")
    logits, features = onnx_answers(folder / "model.onnx", parts.data.images)
    assert logits.shape == (IMAGES, len(CLASSES))
    assert (reference.distance(features) <= reference.limit).mean() > 0.99
    np.testing.assert_allclose(sum(reference.labels.values()), 1)
    assert {quantity.n for quantity in reference.quantities.values()} == {IMAGES}


def test_nothing_of_it_is_a_pickle(opened: tuple[Path, Bundle]) -> None:
    for file in opened[0].iterdir():
        assert not file.read_bytes().startswith(b"\x80"), file


def test_an_image_of_which_a_byte_changed_later_is_refused(opened: tuple[Path, Bundle], registry: Registry) -> None:
    model_card = opened[0] / "MODEL_CARD.md"
    before = model_card.read_bytes()
    try:
        model_card.write_bytes(before.replace(b"research", b"diagnosi", 1))
        with pytest.raises(BundleError, match=r"MODEL_CARD\.md"):
            registry.open("v1")
    finally:
        model_card.write_bytes(before)


def test_the_next_one_is_the_next_version(registry: Registry, assembled: Assembled) -> None:
    parts = material(strategy="off-the-shelf")
    second = assemble(parts, out_of_fold(parts.study, parts.predictions, "off-the-shelf"), registry)
    assert (assembled.bundle.version, second.bundle.version) == ("v1", "v2")
    assert (second.bundle.strategy, second.bundle.study.winner) == ("off-the-shelf", "scratch")
    assert "Another strategy won the study: training from scratch" in second.model_card.split("## ")[0]


@pytest.mark.parametrize("other", [{"strategy": "off-the-shelf"}, {"manifest": "another"}])
def test_a_champion_of_something_else_is_refused(tmp_path: Path, other: dict[str, str]) -> None:
    parts = material(**other)
    with pytest.raises(StudyMismatch, match="Expected a champion of scratch, trained on the images of study 'test'"):
        assemble(parts, out_of_fold(parts.study, parts.predictions, "scratch"), Registry(tmp_path))


def test_a_graph_that_answers_otherwise_leaves_the_registry_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxr_platform.champion.parity.TOLERANCE", 1e-12)
    parts, registry = material(), Registry(tmp_path)
    with pytest.raises(BundleError, match="Expected ONNX Runtime and Keras to give the same probabilities"):
        assemble(parts, out_of_fold(parts.study, parts.predictions, "scratch"), registry)
    assert registry.versions() == ()
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_dir()] == []


def test_the_description_is_plain_json(opened: tuple[Path, Bundle]) -> None:
    tree = json.loads((opened[0] / "bundle.json").read_text())
    assert tree["labels"] == list(CLASSES)
    assert tree["training"]["hardware"]["processors"] == 2
