"""One image at a time: of the study, and from elsewhere. Files are opened in tests/pipelines/test_explain.py."""

from dataclasses import fields

import numpy as np
import pytest

from cxr_platform.errors import StudyError
from cxr_platform.evidence import explanations as explained
from cxr_platform.evidence.explained_image import _unseen, explain_image
from cxr_platform.evidence.networks import fold_networks, predict_images
from cxr_platform.intake.images import ChestImage
from cxr_platform.labels import CLASSES
from tests.evidence.trained import SIZE, STRATEGY, trained_workspace


def test_one_image_is_explained_with_its_out_of_fold_answer() -> None:
    workspace = trained_workspace("corner")
    found = explain_image(workspace, workspace.predictions.image_id[3], STRATEGY)
    assert found.fold == workspace.predictions.fold[3]
    assert found.label == CLASSES[workspace.predictions.label[3]]
    assert (found.probabilities == workspace.predictions.probability[STRATEGY][3]).all()
    assert found.heat.shape == (SIZE // 4, SIZE // 4)
    assert found.field.shape == found.image.shape == (SIZE, SIZE)
    assert 0 <= found.share <= 1


@pytest.mark.parametrize(("image", "strategy", "told"), [("nobody", STRATEGY, "'nobody'"), (None, "scratch", "off-")])
def test_what_the_study_does_not_have_is_refused(image: str | None, strategy: str, told: str) -> None:
    workspace = trained_workspace("corner")
    with pytest.raises(StudyError, match=told):
        explain_image(workspace, image or workspace.predictions.image_id[0], strategy)


def test_one_image_needs_the_network_of_its_own_fold_only(monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, opened = trained_workspace("corner"), []

    def counted(*arguments):
        for fold, network in fold_networks(*arguments):
            opened.append(fold)
            yield fold, network

    monkeypatch.setattr(explained, "fold_networks", counted)
    explain_image(workspace, workspace.predictions.image_id[3], STRATEGY)
    assert opened == [workspace.predictions.fold[3]]


def test_an_image_from_elsewhere_is_explained_by_the_networks_of_all_folds() -> None:
    workspace = trained_workspace("corner")
    image, unknown = workspace.data.images[7], dict.fromkeys(field.name for field in fields(ChestImage))
    found = _unseen(
        workspace, "image.png", ChestImage(**unknown | {"pixels": image, "width": SIZE, "height": SIZE}), STRATEGY
    )
    networks = fold_networks(workspace, STRATEGY)
    each = [predict_images(network, image[None], workspace)[0] for _, network in networks]
    assert len(each) == 3
    assert found.probabilities == pytest.approx(np.mean(each, axis=0))
    assert found.heat.max() == pytest.approx(1)
    assert found.fold is found.label is None
