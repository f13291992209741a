"""A made-up study with the protocol origins, on images of two hospitals, and of a third without Covid19."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.labels import CLASSES
from tests.evaluation.builders import probabilities
from tests.study_records import manifest_facts, study_record, write_record

ORIGINS = ("east", "west")
EACH = 40


def images() -> pd.DataFrame:
    """`EACH` images a class and hospital: Covid19 and Normal of east and west, Edema of south alone."""
    kinds = [(origin, label) for origin in ORIGINS for label in ("Covid19", "Normal")] + [("south", "Edema")]
    frame = pd.DataFrame([kind for kind in kinds for _ in range(EACH)], columns=["source", "label"])
    names = [f"{i:04d}" for i in range(len(frame))]
    return frame.assign(image_id=[f"image-{n}" for n in names], group_id=[f"group-{n}" for n in names])


def predictions(answers: Mapping[str, Mapping[tuple[str, str], str]]) -> pd.DataFrame:
    """Each fold leaves an origin out and tests all images; `answers` by strategy are of (origin, label), else right."""
    parts = []
    for strategy, answer in answers.items():
        for fold, left_out in enumerate(ORIGINS):
            frame = images().assign(strategy=strategy, fold=np.int32(fold))
            unseen = frame["source"] == left_out
            keys = zip(frame["source"], frame["label"], unseen, strict=True)
            given = [answer.get((origin, label), label) if new else label for origin, label, new in keys]
            frame[list(PROBABILITY_COLUMNS)] = probabilities(np.array([CLASSES.index(label) for label in given]))
            parts.append(frame)
    return pd.concat(parts, ignore_index=True)


def write_origin_study(folder: Path, frame: pd.DataFrame, **changes: object) -> Path:
    """Write predictions.parquet and study.json as training does."""
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(folder / "predictions.parquet", index=False)
    shown = frame.drop_duplicates("image_id")
    counts = {label: rows["source"].value_counts().to_dict() for label, rows in shown.groupby("label")}
    facts = manifest_facts(content_hash="b3f0c4de", images=len(shown), study_images=len(shown), counts=counts)
    settings = {"name": folder.name, "protocol": "origins", "folds": len(ORIGINS), "left_out": ORIGINS}
    strategies = tuple(frame["strategy"].unique())
    record = study_record(**{**settings, "strategies": strategies, "manifest": facts, **changes})
    write_record(folder / "study.json", record)
    return folder
