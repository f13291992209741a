from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from cxr_platform.config import RobustConfig
from cxr_platform.domain.strategies import VIEWS
from cxr_platform.domain.study import NO_FOLD, TrialKey
from cxr_platform.errors import ConfigError, NotPossible
from cxr_platform.evaluation.predictions import load_predictions
from cxr_platform.evidence.robust_ablation import AblationData, head_answers
from cxr_platform.labels import class_index
from cxr_platform.models.robust_network import build_robust_network
from cxr_platform.training import engine_local
from cxr_platform.training.origin_folds import OriginFolds
from cxr_platform.training.plan import Share
from cxr_platform.training.progress import StudyProgress
from cxr_platform.training.robust_head import CONTRAST
from cxr_platform.training.robust_trial import (
    RobustTrialData,
    ViewFeatures,
    indeterminate_images,
    robust_trial_data,
    run_robust_trial,
    solved_heads,
)
from cxr_platform.training.study import StudyRun, execute_trial, inputs_of, run_study
from cxr_platform.training.trial import Epoch, Workbench, predict_images, softmax
from tests.training.builders import live_imagenet, tiny_data, tiny_profile, tiny_study, with_views

OPTIONS = {"against": "normal", "margin": 2.0, "contrast": True}
TWO_VIEWS = RobustConfig(views=("whole", "lungs"))
SETTINGS = {
    "plain": TWO_VIEWS,
    "against Normal": replace(TWO_VIEWS, **OPTIONS),
    "gate": replace(TWO_VIEWS, gate=True),
    "gate against Normal": replace(TWO_VIEWS, gate=True, **OPTIONS),
}


def drawn(seed: int = 1, features: int = 1280) -> RobustTrialData:
    """Features of two views of 90 images; the first ones tell Covid19, Normal and Pneumonia."""
    rng = np.random.default_rng(seed)
    labels = np.array([class_index("Covid19"), class_index("Normal"), class_index("Pneumonia"), CONTRAST, 6] * 18)
    values = rng.normal(1, 1, (len(labels), 2, features)).astype("float16")
    values[np.arange(len(labels)), :, labels] += 3
    origins = np.array([f"origin {i % 4}" for i in range(len(labels))])
    origins[labels == class_index("Covid19")] = np.repeat(["origin 0", "web"], 9)
    train, test = np.arange(60), np.flatnonzero(labels[60:] != CONTRAST) + 60
    return RobustTrialData(ViewFeatures(values), labels, origins, train, test)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_trial_predicts_what_the_benchmark_of_heads_does(name: str) -> None:
    data, config = drawn(), SETTINGS[name]
    data = replace(data, train=data.train if config.contrast else data.train[data.labels[data.train] != CONTRAST])
    result = run_robust_trial(Workbench(tiny_profile().model, tiny_profile().training), config, data, 1)
    by_view = {view: data.features.values[:, place] for place, view in enumerate(config.views)}
    nothing = np.zeros(len(data.labels))
    known = AblationData(data.labels, data.origins, nothing, nothing, by_view)
    expected = head_answers(known, data.train, data.test, config, 1)
    assert expected is not None
    np.testing.assert_allclose(result.probabilities, expected.probabilities, atol=2e-5)
    if config.gate:
        np.testing.assert_array_equal(result.indeterminate, expected.indeterminate)
    else:
        assert result.indeterminate is None
    assert result.probabilities.dtype == np.float32
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1, atol=1e-6)


def test_a_gate_needs_an_origin_to_fit_its_second_head_to() -> None:
    data = drawn()
    plain, gated = solved_heads(data, TWO_VIEWS, 1), solved_heads(data, SETTINGS["gate"], 1)
    assert len(plain) == 1
    assert np.abs(gated[0].weights - gated[1].weights).max() > 0.01
    apart = replace(data, origins=np.where(data.labels == class_index("Covid19"), "web", "origin 1"))
    with pytest.raises(NotPossible, match=r"origin that has Covid19 and other images .* gate = true.*web, none"):
        solved_heads(apart, SETTINGS["gate"], 1)


def test_the_history_is_one_row_and_the_trained_layer_the_head() -> None:
    epochs: list[Epoch] = []
    bench = Workbench(tiny_profile().model, tiny_profile().training)
    result = run_robust_trial(bench, TWO_VIEWS, drawn(), 1, epochs.append)
    (epoch,) = result.history
    assert epochs == [epoch]
    assert (epoch.epoch, epoch.epochs, epoch.learning_rate) == (1, 1, 0.0)
    assert epoch.accuracy > 0.9
    assert result.network.trained_layers == ["head_logits"]
    assert result.seconds["total"] >= result.seconds["set_up"] + result.seconds["prediction"]


def test_contrast_images_are_trained_on_when_asked_for_and_never_tested() -> None:
    views = with_views(tiny_data()).views
    assert views is not None
    features = ViewFeatures(np.zeros((len(views.labels), 2, 4), "float16"))
    without, included = (robust_trial_data(views, features, 1, RobustConfig(contrast=on)) for on in (False, True))
    of_fold_0 = np.flatnonzero(views.folds == 0)
    assert included.train.tolist() == of_fold_0.tolist()
    assert without.train.tolist() == of_fold_0[views.labels[of_fold_0] != CONTRAST].tolist()
    assert len(included.train) == len(without.train) + 3
    assert included.test.tolist() == without.test.tolist() == np.flatnonzero(tiny_data().folds == 1).tolist()
    assert len(robust_trial_data(views, features, NO_FOLD, RobustConfig(contrast=True)).train) == len(views.labels)


def test_a_head_within_origins_needs_one_with_both_sides() -> None:
    views = with_views(tiny_data()).views
    assert views is not None
    origins = np.where(views.labels == class_index("Covid19"), "here", "there")
    features = ViewFeatures(np.zeros((len(views.labels), 2, 4), "float16"))
    with pytest.raises(NotPossible, match="Covid19 and others of one origin outside fold 1"):
        robust_trial_data(replace(views, origins=origins), features, 1, RobustConfig(last_layer="within"))
    folds = OriginFolds(("here", "there"), views.folds == [[0], [1]], views.folds != [[0], [1]])
    left_out = replace(views, origins=origins, origin_folds=folds)
    with pytest.raises(NotPossible, match="Covid19 and others of one origin without there"):
        robust_trial_data(left_out, features, 1, RobustConfig(last_layer="within"))


def test_a_study_with_a_gate_that_a_fold_leaves_no_second_head_is_refused_before_any_trial(tmp_path: Path) -> None:
    study = robust_study(tmp_path, gate=True)
    views = study.data.views
    assert views is not None
    origins = np.where(views.labels == class_index("Covid19"), "here", "there")
    apart = replace(study, data=replace(study.data, views=replace(views, origins=origins)))
    with pytest.raises(NotPossible, match="an origin that has Covid19 and other images"):
        run_study(apart, engine_local.run, StudyProgress())
    assert not list(tmp_path.rglob("*.h5"))


def robust_study(folder: Path, *strategies: str, **robust: object) -> StudyRun:
    profile = tiny_profile(robust={"views": ["whole", "lungs"], "contrast": True, **robust})
    return replace(tiny_study(folder, strategies or ("robust",), profile), imagenet=live_imagenet(profile))


def test_a_study_with_robust_stores_its_trials_like_any_others(tmp_path: Path) -> None:
    study = robust_study(tmp_path, "off-the-shelf", "robust")
    run_study(study, engine_local.run, StudyProgress())
    record = study.folder.record()
    predictions = load_predictions(tmp_path, record)
    assert list(predictions.probability) == ["off-the-shelf", "robust"]
    trial = study.folder.trial_record(TrialKey("robust", 0))
    assert (trial.cut, trial.epochs, trial.trained_layers) == (VIEWS, 1, ("head_logits",))
    assert trial.images.train == len(study.data.labels) // 2 + 3
    assert trial.images.test == len(study.data.labels) // 2
    assert trial.accuracy is not None
    assert trial.accuracy > 0.5  # the grey level gives the class away


@pytest.mark.parametrize("gate", [False, True])
def test_a_champion_is_fitted_to_all_images_and_keeps_the_whole_network(tmp_path: Path, gate: bool) -> None:
    study, key = robust_study(tmp_path, gate=gate), TrialKey("robust", NO_FOLD)
    activations = engine_local.compute_activations(study, (VIEWS,), StudyProgress())
    bench, inputs = study.workbench(Share(1.0, 0.0)), inputs_of(study, key, activations)
    record = execute_trial(study, bench, key, inputs, Share(1.0, 0.0), lambda _: None)
    assert (record.images.train, record.images.test, record.accuracy) == (62, 0, None)
    assert record.identity["robust"]["views"] == ["whole", "lungs"]
    network = build_robust_network(study.plan.profile.model, study.plan.profile.robust)
    network.full.load_weights(study.folder.trial_folder(key) / "model.weights.h5")
    assert study.data.views is not None
    probabilities = predict_images(network, study.data.views.images[:56])
    assert (probabilities.argmax(axis=1) == study.data.labels).mean() > 0.9


def test_the_stored_weights_give_the_stored_predictions(tmp_path: Path) -> None:
    study = robust_study(tmp_path)
    run_study(study, engine_local.run, StudyProgress())
    network = build_robust_network(study.plan.profile.model, study.plan.profile.robust, study.imagenet)
    network.upper.load_weights(study.folder.trial_folder(TrialKey("robust", 1)) / "model.weights.h5")
    assert study.data.views is not None
    rows = study.data.rows_of_fold(1)
    images = np.repeat(study.data.views.images[rows][..., None] / 127.5 - 1, 3, axis=-1).astype("float32")
    again = softmax(keras.ops.convert_to_numpy(network.full(images)).astype("float64"))
    predictions = load_predictions(tmp_path, study.folder.record())
    assert predictions.image_id[predictions.fold == 1].tolist() == study.data.image_ids[rows].tolist()
    stored = predictions.probability["robust"][predictions.fold == 1]
    np.testing.assert_allclose(stored, again, atol=0.02)  # activations are kept with 16 bits
    assert stored.max() > 0.9


def test_mixed_looks_which_a_trial_does_not_compute_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='appearance = "none" under'):
        robust_study(tmp_path, appearance="mixed")


def test_answers_at_a_gate_are_stored_with_the_predictions_of_robust_alone(tmp_path: Path) -> None:
    study = robust_study(tmp_path, "off-the-shelf", "robust", gate=True)
    run_study(study, engine_local.run, StudyProgress())
    predictions = load_predictions(tmp_path, study.folder.record())
    assert list(predictions.indeterminate) == ["robust"]
    network = build_robust_network(study.plan.profile.model, study.plan.profile.robust, study.imagenet)
    network.upper.load_weights(study.folder.trial_folder(TrialKey("robust", 1)) / "model.weights.h5")
    assert study.data.views is not None
    again = indeterminate_images(network, study.data.views.images[study.data.rows_of_fold(1)])
    assert again is not None
    assert (again == predictions.indeterminate["robust"][predictions.fold == 1]).mean() > 0.95  # kept with 16 bits


def test_a_network_without_a_gate_leaves_nothing_indeterminate() -> None:
    made = build_robust_network(tiny_profile().model, TWO_VIEWS)
    assert indeterminate_images(made, np.zeros((2, 2, 32, 32), "uint8")) is None
