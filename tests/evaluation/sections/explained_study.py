"""A small made-up study with images, heatmaps and a feature atlas, for the sections that show them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from cxr_platform.evaluation.evidence_files import Evidence
from cxr_platform.evaluation.report_inputs import ManifestImages, ReportInputs
from cxr_platform.labels import CLASSES
from tests.evaluation.planted import STRATEGY, predictions, report_inputs

SIDE, CELLS, COUNT = 16, 4, 56
LABELS = [CLASSES[number % len(CLASSES)] for number in range(COUNT)]
SOURCES = ["east" if number % 2 else "west" for number in range(COUNT)]


def explained_study(
    wrong: int = 6, *, shares: Any = 0.8, synthetic: bool = False, several: bool = True
) -> ReportInputs:
    """Return 56 images; the first `wrong` are assigned the next class, `shares` of the heatmaps are in the lungs."""
    answers = [CLASSES[(number + (number < wrong)) % len(CLASSES)] for number in range(COUNT)]
    scored = predictions(SOURCES, LABELS, answers)
    made = report_inputs(scored, {"label": LABELS, "source": SOURCES}, synthetic=synthetic)
    assert made.images is not None
    place = {image_id: number for number, image_id in enumerate(scored.image_id)}

    def pixels(image_ids: Any) -> np.ndarray:
        return np.stack([np.full((SIDE, SIDE), 3 * place[image_id], np.uint8) for image_id in image_ids])

    evidence = Evidence(
        {
            "lung_share": lung_share(scored.image_id, answers, shares),
            "heatmaps": heatmaps(scored.image_id, answers),
            "atlas": atlas(several=several),
            "atlas_images": atlas_images(scored.image_id),
        }
    )
    return replace(made, images=ManifestImages(made.images.facts, pixels), evidence=evidence)


def without(made: ReportInputs, *parts: str) -> ReportInputs:
    """Return the study without these parts of the evidence, with a reason for their absence."""
    kept = {name: frame for name, frame in made.evidence.parts.items() if name not in parts}
    return replace(made, evidence=Evidence(kept, dict.fromkeys(parts, "No weights are at hand.")))


def lung_share(image_ids: np.ndarray, answers: list[str], shares: Any) -> pd.DataFrame:
    spread = np.clip(np.broadcast_to(shares, COUNT) + 0.04 * np.sin(np.arange(COUNT)), 0, 1)
    columns = {"image_id": image_ids, "label": LABELS, "predicted": answers, "strategy": STRATEGY, "fold": 0}
    return pd.DataFrame({**columns, "share": spread, "field_share": 0.57})


def heatmaps(image_ids: np.ndarray, answers: list[str]) -> pd.DataFrame:
    maps = [np.eye(CELLS, dtype="float16").ravel() for _ in image_ids]
    columns = {"image_id": image_ids, "strategy": STRATEGY, "fold": 0, "target": answers, "side": CELLS}
    return pd.DataFrame({**columns, "heatmap": maps})


def atlas(*, several: bool) -> pd.DataFrame:
    """Return two features per class (Covid19, Normal) and fold; those of the second fold were better where chosen."""
    rows = [
        {
            "fold": fold,
            "feature": 10 * fold + rank,
            "label": label,
            "auc_chosen": 0.9 + 0.05 * fold - 0.01 * rank,
            "auc_held": 0.85 - 0.02 * rank,
            "matched_folds": 2 - rank,
            "folds": 2,
            "source": "east" if several else None,
            "auc_source": (0.9 if label == "Covid19" else 0.6) if several else np.nan,
        }
        for fold in (0, 1)
        for label in ("Covid19", "Normal")
        for rank in (0, 1)
    ]
    return pd.DataFrame(rows)


def atlas_images(image_ids: np.ndarray) -> pd.DataFrame:
    """Return three images for every feature."""
    rows = [
        {"fold": fold, "feature": feature, "rank": rank, "image_id": image_ids[10 * rank + feature % 10]}
        for fold in (0, 1)
        for feature in (10 * fold, 10 * fold + 1)
        for rank in (0, 1, 2)
    ]
    heat = np.eye(CELLS, dtype="float16").ravel()
    return pd.DataFrame(rows).assign(value=1.0, side=CELLS, heatmap=[heat] * len(rows))
