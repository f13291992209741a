"""Study folders made up for tests, in the form that training writes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.domain.strategies import STRATEGY_NAMES
from cxr_platform.domain.study import Hardware
from cxr_platform.evaluation.paper import paper_matrix
from cxr_platform.labels import CLASSES, PAPER_COUNTS
from tests.study_records import manifest_facts, study_record, write_record

CERTAINTY = 0.7
SOURCES = {"Covid19": ("cohen", "actualmed"), "Pneumonia": ("kermany",), "Normal": ("kermany", "cohen")}
ACCURACIES = dict(zip(STRATEGY_NAMES, (0.52, 0.50, 0.57, 0.53, 0.43, 0.66, 0.76, 0.88), strict=True))


def probabilities(predicted: np.ndarray) -> np.ndarray:
    """(N, 7) float32 rows whose likeliest class is `predicted`."""
    rest = (1 - CERTAINTY) / (len(CLASSES) - 1)
    values = np.full((len(predicted), len(CLASSES)), rest, dtype=np.float32)
    values[np.arange(len(predicted)), predicted] = CERTAINTY
    return values


def image_frame(counts: Mapping[str, int], folds: int) -> pd.DataFrame:
    """One row an image with its source, group (pairs of images) and fold."""
    labels = [label for label, n in counts.items() for _ in range(n)]
    sources = [SOURCES.get(label, ("nih",)) for label in labels]
    number = np.arange(len(labels))
    return pd.DataFrame(
        {
            "image_id": [f"image-{i:05d}" for i in number],
            "group_id": [f"group-{i // 2:05d}" for i in number],
            "source": [names[i % len(names)] for i, names in zip(number, sources, strict=True)],
            "label": labels,
            "fold": (number // 2 % folds).astype(np.int32),
        }
    )


def with_predictions(images: pd.DataFrame, strategy: str, predicted: np.ndarray) -> pd.DataFrame:
    frame = images.assign(strategy=strategy)
    frame[list(PROBABILITY_COLUMNS)] = probabilities(predicted)
    return frame


def drawn(images: pd.DataFrame, accuracy: float, seed: int) -> np.ndarray:
    """Predicted positions in `CLASSES`, right with probability `accuracy`."""
    random = np.random.default_rng(seed)
    actual = images["label"].map(CLASSES.index).to_numpy()
    wrong = (actual + random.integers(1, len(CLASSES), len(actual))) % len(CLASSES)
    return np.where(random.random(len(actual)) < accuracy, actual, wrong)


def printed(strategy: str) -> np.ndarray:
    """Predicted positions that give the paper's confusion matrix on `PAPER_COUNTS` images, class after class."""
    matrix = paper_matrix(strategy)
    return np.concatenate([np.repeat(np.arange(len(CLASSES)), row) for row in matrix])


def write_study(
    folder: Path,
    frame: pd.DataFrame,
    *,
    synthetic: bool = False,
    protocol: str = "grouped",
    name: str = "test",
    known_patients: dict[str, int] | None = None,
) -> Path:
    """Write predictions.parquet and study.json as training does; by default every patient is known."""
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(folder / "predictions.parquet", index=False)
    images = frame.drop_duplicates("image_id")
    counts = {label: rows["source"].value_counts().to_dict() for label, rows in images.groupby("label", sort=False)}
    record = study_record(
        name=name,
        protocol=protocol,
        strategies=tuple(frame["strategy"].unique()),
        folds=int(frame["fold"].max()) + 1,
        manifest=manifest_facts(
            content_hash="b3f0c4de",
            path="data/manifest",
            images=len(images),
            study_images=len(images),
            synthetic=synthetic,
            counts=counts,
            known_patients=images["source"].value_counts().to_dict() if known_patients is None else known_patients,
        ),
        versions={"python": "3.11.9", "tensorflow": "2.16.2", "keras": "3.15.1"},
        hardware=Hardware(processor="AMD EPYC", processors=2),
    )
    write_record(folder / "study.json", record)
    return folder


def drawn_frame(accuracies: Mapping[str, float] = ACCURACIES, *, scale: float = 0.1, folds: int = 5) -> pd.DataFrame:
    """Predictions of known accuracy on the paper's class proportions."""
    images = image_frame({label: round(n * scale) for label, n in PAPER_COUNTS.items()}, folds)
    parts = [with_predictions(images, s, drawn(images, a, seed)) for seed, (s, a) in enumerate(accuracies.items())]
    return pd.concat(parts, ignore_index=True)


def printed_frame(folds: int = 10) -> pd.DataFrame:
    """Predictions of both strategies whose confusion matrix the paper prints."""
    images = image_frame(PAPER_COUNTS, folds)
    return pd.concat([with_predictions(images, s, printed(s)) for s in ("off-the-shelf", "scratch")], ignore_index=True)


def two_sources() -> pd.DataFrame:
    """Images of Covid19 from one source, and all others from another."""
    frame = drawn_frame({"scratch": 0.9})
    return frame.assign(source=np.where(frame["label"] == "Covid19", "cohen", "nih"))
