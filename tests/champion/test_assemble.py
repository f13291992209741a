"""A complete version of the registry with the study's out-of-fold metrics, or none."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cxr_platform.champion.assemble import AssembledBundle, assemble, champion_reference
from cxr_platform.champion.export import onnx_answers
from cxr_platform.champion.out_of_fold import out_of_fold
from cxr_platform.config import RobustConfig, SelectionConfig
from cxr_platform.errors import BundleError, StudyMismatch
from cxr_platform.labels import CLASSES
from cxr_platform.monitoring.reference import Reference, parse_reference
from cxr_platform.registry.bundle import Bundle
from cxr_platform.registry.store import Registry
from cxr_platform.training.data import load_view_images
from tests.champion.builders import (
    COUNTS,
    FOLDS,
    HASH,
    MODEL,
    SIDE,
    champion_inputs,
    made,
    made_champion,
    made_network,
    made_robust_weights,
    made_study,
)

IMAGES = sum(COUNTS.values())


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return Registry(tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="module")
def assembled(registry: Registry) -> AssembledBundle:
    parts = champion_inputs()
    return assemble(parts, out_of_fold(parts.study, parts.predictions, "scratch"), registry)


@pytest.fixture(scope="module")
def opened(registry: Registry, assembled: AssembledBundle) -> tuple[Path, Bundle]:
    return registry.open(assembled.bundle.version)


def test_the_first_version_is_complete_and_not_the_champion(registry: Registry, opened: tuple[Path, Bundle]) -> None:
    folder, _ = opened
    assert registry.versions() == ("v1",)
    assert registry.champion() is None
    assert sorted(file.name for file in folder.iterdir()) == [
        "MODEL_CARD.md", "bundle.json", "model.onnx", "model.weights.h5", "reference.json",
    ]  # fmt: skip
    assert (folder / "model.weights.h5").read_bytes() == made().weights.read_bytes()


def test_the_bundle_has_the_out_of_fold_metrics_of_the_study(opened: tuple[Path, Bundle]) -> None:
    bundle, parts = opened[1], champion_inputs()
    performance = out_of_fold(parts.study, parts.predictions, "scratch")
    assert bundle.metrics == performance.measures.pooled
    assert bundle.operating_point == performance.operating_point
    assert bundle.temperature == performance.temperature


def test_the_bundle_has_its_study_and_training(opened: tuple[Path, Bundle]) -> None:
    bundle = opened[1]
    assert (bundle.study.manifest_hash, bundle.study.images, bundle.study.folds) == (HASH, IMAGES, FOLDS)
    assert (bundle.study.winner, bundle.strategy) == ("scratch", "scratch")
    assert (bundle.training.epochs, bundle.training.seed, bundle.training.backend) == (3, 2020, "tensorflow")
    assert bundle.training.precision == "float32"
    assert bundle.model == MODEL
    assert bundle.parity.images == IMAGES
    assert 0 < bundle.parity.max_abs_difference < 1e-5


def test_preprocessing_is_that_of_the_manifest_not_of_the_profile(opened: tuple[Path, Bundle]) -> None:
    preprocessing = opened[1].preprocessing
    assert champion_inputs().profile.intake.decoding.image_size == 200
    assert (preprocessing.decoding.image_size, preprocessing.input_size) == (SIDE, SIDE)


@pytest.mark.parametrize("frontal_only", [True, False])
def test_the_champion_screens_the_views_that_the_manifest_selected(frontal_only: bool) -> None:
    parts = champion_inputs()
    config = replace(parts.manifest.info.config, selection=SelectionConfig(frontal_only=frontal_only))
    info = parts.manifest.info.model_copy(update={"config": config})
    inputs = replace(parts, manifest=replace(parts.manifest, info=info))
    assert inputs.preprocessing.frontal_only is frontal_only
    assert inputs.preprocessing.intake == replace(config, selection=SelectionConfig(frontal_only=frontal_only))


def test_the_reference_statistics_fit_the_features_of_the_graph(opened: tuple[Path, Bundle]) -> None:
    folder, parts = opened[0], champion_inputs()
    reference = parse_reference((folder / "reference.json").read_bytes(), "reference.json")
    logits, features = onnx_answers(folder / "model.onnx", parts.data.images)
    assert logits.shape == (IMAGES, len(CLASSES))
    assert (reference.distance(features) <= reference.limit).mean() > 0.99
    np.testing.assert_allclose(sum(reference.labels.values()), 1)
    assert {quantity.n for quantity in reference.quantities.values()} == {IMAGES}


def test_a_bundle_of_robust_has_its_views(tmp_path: Path) -> None:
    robust = RobustConfig(views=("whole", "lungs"), against="normal", margin=1.0)
    parts = champion_inputs(made_study(tmp_path / "runs" / "test", {"robust": 2.0}), strategy="robust")
    weights = made_robust_weights(tmp_path / "champion" / "model.weights.h5", made_network(), robust)
    parts = replace(parts, profile=replace(parts.profile, robust=robust), champion=made_champion(weights, "robust"))
    registry = Registry(tmp_path / "registry")
    result = assemble(parts, out_of_fold(parts.study, parts.predictions, "robust"), registry)
    folder, bundle = registry.open("v1")
    assert bundle.preprocessing.views == ("whole", "lungs")
    assert bundle.preprocessing.input_shape == (2, SIDE, SIDE)
    assert 0 < bundle.parity.max_abs_difference < 1e-4
    views = load_view_images(parts.manifest, "grouped", SIDE, robust.views).images
    _, features = onnx_answers(folder / "model.onnx", views)
    reference = parse_reference((folder / "reference.json").read_bytes(), "reference.json")
    assert (reference.distance(features) <= reference.limit).mean() > 0.99
    assert "of the views whole and lungs of an image; strategy robust, which is not of arXiv" in result.model_card


def test_no_file_of_a_bundle_is_a_pickle(opened: tuple[Path, Bundle]) -> None:
    for file in opened[0].iterdir():
        assert not file.read_bytes().startswith(b"\x80"), file


def test_a_bundle_with_a_changed_byte_is_an_error(opened: tuple[Path, Bundle], registry: Registry) -> None:
    model_card = opened[0] / "MODEL_CARD.md"
    before = model_card.read_bytes()
    try:
        model_card.write_bytes(before.replace(b"research", b"diagnosi", 1))
        with pytest.raises(BundleError, match=r"MODEL_CARD\.md"):
            registry.open("v1")
    finally:
        model_card.write_bytes(before)


def test_the_next_bundle_is_the_next_version(registry: Registry, assembled: AssembledBundle) -> None:
    parts = champion_inputs(strategy="off-the-shelf")
    second = assemble(parts, out_of_fold(parts.study, parts.predictions, "off-the-shelf"), registry)
    assert (assembled.bundle.version, second.bundle.version) == ("v1", "v2")
    assert (second.bundle.strategy, second.bundle.study.winner) == ("off-the-shelf", "scratch")
    assert "Another strategy won the study: training from scratch" in second.model_card.split("## ")[0]


@pytest.mark.parametrize("other", [{"strategy": "off-the-shelf"}, {"manifest": "another"}])
def test_a_champion_of_another_strategy_or_manifest_is_an_error(tmp_path: Path, other: dict[str, str]) -> None:
    parts = champion_inputs(**other)
    with pytest.raises(StudyMismatch, match="Expected a champion of scratch, trained on the images of study 'test'"):
        assemble(parts, out_of_fold(parts.study, parts.predictions, "scratch"), Registry(tmp_path))


def test_a_graph_with_other_answers_leaves_the_registry_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxr_platform.champion.export.TOLERANCE", 1e-12)
    parts, registry = champion_inputs(), Registry(tmp_path)
    with pytest.raises(BundleError, match="Expected ONNX Runtime and Keras to give the same probabilities"):
        assemble(parts, out_of_fold(parts.study, parts.predictions, "scratch"), registry)
    assert registry.versions() == ()
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_dir()] == []


def test_the_description_is_plain_json(opened: tuple[Path, Bundle]) -> None:
    tree = json.loads((opened[0] / "bundle.json").read_text())
    assert tree["labels"] == list(CLASSES)
    assert tree["training"]["hardware"]["processors"] == 2


def test_the_champion_of_the_study_passes_the_check() -> None:
    champion_inputs().check("scratch")


@pytest.mark.parametrize(
    ("identity", "received"),
    [({"strategy": "fine-tuning-1"}, "one of fine-tuning-1, manifest b3f0c4de"), ({"manifest": "f00"}, "manifest f00")],
)
def test_another_champion_is_an_error_that_names_it(identity: dict[str, str], received: str) -> None:
    with pytest.raises(StudyMismatch, match=f"Received: .*{received}"):
        champion_inputs(**identity).check("scratch")


def reference(shift: float = 0.0) -> Reference:
    rng = np.random.default_rng(3)
    probabilities = rng.dirichlet(np.ones(7), size=IMAGES)
    features = rng.normal(shift, 1, (IMAGES, 20))
    return champion_reference(probabilities, made().manifest, features, np.arange(IMAGES) // 2, seed=1)


def test_reference_answers_are_those_of_the_probabilities() -> None:
    probabilities = np.random.default_rng(3).dirichlet(np.ones(7), size=IMAGES)
    statistics = reference()
    np.testing.assert_allclose(
        statistics.quantities["confidence"].quantiles[[0, -1]], np.sort(probabilities.max(1))[[0, -1]]
    )
    np.testing.assert_allclose(
        statistics.quantities["covid19"].quantiles[-1], probabilities[:, CLASSES.index("Covid19")].max()
    )
    assert statistics.labels["Edema"] == (probabilities.argmax(1) == CLASSES.index("Edema")).mean()


def test_reference_quantities_are_of_the_studys_images_without_external_ones() -> None:
    """The one external image is all white: its mean is 1, its deviation 0, its padding the largest."""
    quantities, table = reference().quantities, made().manifest.table().to_pandas()
    study = table[table["role"] == "study"]
    assert len(study) == len(table) - 1
    for quantity, column in (("brightness", "mean"), ("contrast", "std"), ("padding", "padding_fraction")):
        assert quantities[quantity].n == IMAGES
        np.testing.assert_array_equal(
            quantities[quantity].quantiles[[0, -1]], [study[column].min(), study[column].max()]
        )
    assert quantities["brightness"].quantiles[-1] < 1


def test_features_unlike_the_champions_are_beyond_the_limit() -> None:
    statistics = reference()
    alike, unlike = np.random.default_rng(9).normal(0, 1, (200, 20)), np.random.default_rng(9).normal(6, 1, (200, 20))
    assert (statistics.distance(alike) <= statistics.limit).mean() > 0.97
    assert (statistics.distance(unlike) > statistics.limit).all()
