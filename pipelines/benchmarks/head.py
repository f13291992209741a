"""Compare the off-the-shelf head of a study with a logistic regression on the same frozen features.

Same images, same folds, same features (of the images without augmentation). A head whose accuracy is more than two
points lower than the regression's is implemented or trained wrongly. The interval of the difference is over patients.
"""

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cxr_platform.config import Profile
from cxr_platform.domain.study import read_study
from cxr_platform.errors import StudyError
from cxr_platform.evaluation.formatting import text
from pipelines.benchmarks import write_result
from pipelines.options import add_weights_option

STRATEGY = "off-the-shelf"


@dataclass(frozen=True)
class HeadRequest:
    """A study that ran the off-the-shelf strategy, its manifest, a file of ImageNet weights, and one for the result."""

    manifest: Path
    study: Path
    imagenet_weights: Path | None
    json: Path | None = None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `cxr benchmark head`."""
    parser.add_argument("--manifest", type=Path, required=True, help="folder of the manifest of the study")
    parser.add_argument("--study", type=Path, required=True, help=f"folder of a study with the strategy {STRATEGY}")
    add_weights_option(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result with hardware and versions")


def run(request: HeadRequest) -> int:
    """Print both pooled 7-class accuracies and their difference; return 0."""
    from cxr_platform.evaluation.predictions import load_predictions
    from cxr_platform.evaluation.statistics.bootstrap import study_bootstrap
    from cxr_platform.manifest.store import open_manifest
    from cxr_platform.models.weights import find_weights, load_backbone_weights
    from cxr_platform.training.data import load_study_data

    study = read_study(request.study)
    profile = study.profile
    manifest = open_manifest(request.manifest)
    if manifest.content_hash != study.manifest.content_hash:
        raise StudyError(
            f"Expected the manifest with which {request.study} was run.",
            received=f"content hash {manifest.content_hash}",
        )
    if STRATEGY not in study.strategies:
        raise StudyError(f"Expected {request.study} to have run {STRATEGY}.", advice="Add it with STRATEGIES.")
    predictions = load_predictions(request.study, study)  # in the order of image ids; not of the protocol origins
    data = load_study_data(manifest, study.protocol, profile.folds, profile.model.input_size)
    weights = load_backbone_weights(find_weights(profile.model.alpha, request.imagenet_weights), profile.model.alpha)
    features = _features(profile, weights, np.asarray(data.images))
    by_regression = regression_answers(features, data.labels, data.folds) == data.labels
    regression = by_regression[np.argsort(data.image_ids)]
    head = predictions.probability[STRATEGY].argmax(axis=1) == predictions.label
    difference = study_bootstrap(study, predictions).difference(head, regression)
    result = {
        "images": len(head),
        "folds": profile.folds,
        "protocol": study.protocol,
        "input_size": profile.model.input_size,
        "regression": float(100 * regression.mean()),
        "head": float(100 * head.mean()),
        "difference": asdict(difference),
    }
    print(f"{result['images']} images, {profile.folds} folds ({study.protocol}), {profile.model.input_size} px")
    print(f"logistic regression on frozen features: {result['regression']:.2f} %")
    print(f"off-the-shelf head:                     {result['head']:.2f} %, {text(difference)} points")
    if request.json is not None:
        write_result(request.json, "head", result)
    return 0


def regression_answers(features: NDArray[Any], labels: NDArray[Any], folds: NDArray[Any]) -> NDArray[Any]:
    """Return the out-of-fold answers (N,) of scikit-learn's logistic regression on scaled features (N, F)."""
    answers = np.empty_like(labels)
    for fold in np.unique(folds):
        test = folds == fold
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        answers[test] = model.fit(features[~test], labels[~test]).predict(features[test])
    return answers


def _features(profile: Profile, weights: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    from cxr_platform.models.frozen import FrozenBackbone, view_transforms

    clean = view_transforms(len(images), profile.model.input_size, profile.augmentation, profile.seed)[0]
    backbone = FrozenBackbone(("features",), profile.model, weights)
    return backbone.activations(images, clean)["features"].astype("float32")
