"""Is the head trained well? Its off-the-shelf accuracy beside a logistic regression on the same frozen features.

    python -m pipelines.benchmark_head --manifest data/manifests/NAME --study runs/NAME

Same images, same folds, same features (each image as it is). A head that falls short of the regression by more than a
couple of points is wrong, or wrongly trained.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cxr_platform.config import Profile
from cxr_platform.domain.study import read_study
from cxr_platform.errors import StudyError
from pipelines.command import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Print both pooled 7-class accuracies and their difference; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.benchmark_head", description=__doc__.split("\n")[0])
    parser.add_argument("--manifest", type=Path, required=True, help="folder of the manifest of the study")
    parser.add_argument("--study", type=Path, required=True, help="folder of a study with the off-the-shelf strategy")
    parser.add_argument("--imagenet-weights", type=Path, help="a published MobileNetV2 file, if it is at hand")
    return run_command(lambda: _run(parser.parse_args(argv)))


def _run(arguments: argparse.Namespace) -> int:
    from cxr_platform.manifest.store import open_manifest
    from cxr_platform.models.weights import find_weights, load_backbone_weights
    from cxr_platform.training.data import load_study_data

    study = read_study(arguments.study)
    profile = study.profile
    manifest = open_manifest(arguments.manifest)
    if manifest.content_hash != study.manifest.content_hash:
        raise StudyError(
            f"Expected the manifest with which {arguments.study} was run.",
            received=f"content hash {manifest.content_hash}",
        )
    if "off-the-shelf" not in study.strategies:
        raise StudyError(f"Expected {arguments.study} to have run off-the-shelf.", advice="Add it with STRATEGIES.")
    data = load_study_data(manifest, study.protocol, profile.folds, profile.model.input_size)
    weights = load_backbone_weights(find_weights(profile.model.alpha, arguments.imagenet_weights), profile.model.alpha)
    features = _features(profile, weights, data.images)
    regression = regression_accuracy(features, data.labels, data.folds)
    head = _head_accuracy(arguments.study)
    print(f"{len(data.labels)} images, {profile.folds} folds ({study.protocol}), {profile.model.input_size} px")
    print(f"logistic regression on frozen features: {regression:.4f}")
    print(f"off-the-shelf head:                     {head:.4f}  ({100 * (head - regression):+.2f} points)")
    return 0


def regression_accuracy(features: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> float:
    """Pooled out-of-fold accuracy of scaled features (N, F) in scikit-learn's logistic regression with its defaults."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    right = 0
    for fold in np.unique(folds):
        test = folds == fold
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        model.fit(features[~test], labels[~test])
        right += int((model.predict(features[test]) == labels[test]).sum())
    return right / len(labels)


def _features(profile: Profile, weights: Any, images: np.ndarray) -> np.ndarray:
    from cxr_platform.models.frozen import FrozenBackbone, view_transforms

    clean = view_transforms(len(images), profile.model.input_size, profile.augmentation, profile.seed)[0]
    backbone = FrozenBackbone(("features",), profile.model, weights)
    return backbone.activations(images, clean)["features"].astype("float32")


def _head_accuracy(study: Path) -> float:
    from cxr_platform.evaluation.metrics import evaluate
    from cxr_platform.evaluation.predictions import load_predictions

    evaluation = evaluate(load_predictions(study, read_study(study)), "off-the-shelf")
    return float(evaluation.pooled.accuracy_7_class) / 100  # type: ignore[arg-type]


if __name__ == "__main__":
    raise SystemExit(main())
