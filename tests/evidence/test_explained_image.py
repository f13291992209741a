"""Explanations of one image, of the study or not (files: tests/pipelines/test_explain.py)."""

from dataclasses import fields, replace

import numpy as np
import pytest

from cxr_platform.errors import NotPossible, StudyError
from cxr_platform.evidence import explanations as explained
from cxr_platform.evidence.explained_image import _other_image, explain_image
from cxr_platform.evidence.faithfulness import faithfulness
from cxr_platform.evidence.feature_atlas import feature_atlas
from cxr_platform.evidence.fold_networks import fold_networks
from cxr_platform.intake.images import ChestImage
from cxr_platform.labels import CLASSES
from cxr_platform.training.trial import predict_images
from tests.evidence.trained import SIZE, STRATEGY, trained_open_study


def test_an_image_of_the_study_is_explained_with_its_out_of_fold_prediction() -> None:
    opened = trained_open_study("corner")
    explained_image = explain_image(opened, opened.predictions.image_id[3], STRATEGY)
    assert explained_image.fold == opened.predictions.fold[3]
    assert explained_image.label == CLASSES[opened.predictions.label[3]]
    assert (explained_image.probabilities == opened.predictions.probability[STRATEGY][3]).all()
    assert explained_image.heat.shape == (SIZE // 4, SIZE // 4)
    assert explained_image.lungs.shape == explained_image.image.shape == (SIZE, SIZE)
    assert 0 <= explained_image.share <= 1


@pytest.mark.parametrize(
    ("image", "strategy", "message"), [("unknown", STRATEGY, "'unknown'"), (None, "scratch", "off-")]
)
def test_an_unknown_image_or_strategy_is_an_error(image: str | None, strategy: str, message: str) -> None:
    opened = trained_open_study("corner")
    with pytest.raises(StudyError, match=message):
        explain_image(opened, image or opened.predictions.image_id[0], strategy)


def test_robust_has_no_heatmaps() -> None:
    opened = trained_open_study("corner")
    known = replace(opened.predictions, probability={"robust": opened.predictions.probability[STRATEGY]})
    of_robust = replace(opened, predictions=known, winner="robust")
    with pytest.raises(NotPossible, match=r"as a whole.*robust, whose head.*Explain another strategy"):
        explain_image(of_robust, str(known.image_id[0]), "robust")
    for analysis in (explained.explanations, faithfulness, feature_atlas):
        with pytest.raises(NotPossible, match="explain it by a heatmap"):
            analysis(of_robust)


def test_only_the_network_of_the_images_fold_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = trained_open_study("corner")
    loaded: list[int] = []

    def counted(*arguments):
        for fold, network in fold_networks(*arguments):
            loaded.append(fold)
            yield fold, network

    monkeypatch.setattr(explained, "fold_networks", counted)
    explain_image(opened, opened.predictions.image_id[3], STRATEGY)
    assert loaded == [opened.predictions.fold[3]]


def test_another_image_is_explained_by_the_networks_of_all_folds() -> None:
    opened = trained_open_study("corner")
    image, unknown = opened.data.images[7], dict.fromkeys(field.name for field in fields(ChestImage))
    explained_image = _other_image(
        opened, "image.png", ChestImage(**unknown | {"pixels": image, "width": SIZE, "height": SIZE}), STRATEGY
    )
    networks = fold_networks(opened, STRATEGY)
    each = [predict_images(network, image[None])[0] for _, network in networks]
    assert len(each) == 3
    assert explained_image.probabilities == pytest.approx(np.mean(each, axis=0))
    assert explained_image.heat.max() == pytest.approx(1)
    assert explained_image.fold is explained_image.label is None
