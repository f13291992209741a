"""Evidence made up for tests: probes and unseen images whose answers are given."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.evaluation.evidence_files import Evidence
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.labels import CLASSES
from tests.evaluation.builders import probabilities
from tests.evaluation.planted import predictions, report_inputs

LABELS = ("Covid19", "Pneumonia", "Normal", "Normal") * 50
SOURCES = ("east",) * 100 + ("west",) * 100


def with_evidence(made: ReportInputs, absent: Mapping[str, str] | None = None, **parts: pd.DataFrame) -> ReportInputs:
    return replace(made, evidence=Evidence(parts, absent or {}))


def study(right: int = 190, *, synthetic: bool = False) -> ReportInputs:
    """200 images of two sources, half of them Normal, of which the network has the first `right` right."""
    return report_inputs(predictions(SOURCES, LABELS, answers(right)), synthetic=synthetic)


def answers(right: int) -> list[str]:
    """The labels of the first `right` images of every 200, for the others another class."""
    return [label if i < right else "Edema" for i, label in enumerate(LABELS)]


def probe_frame(scored: Predictions, **right: int) -> pd.DataFrame:
    """Rows of probes by name, each with that many of the images right; `_` stands for a hyphen."""
    return pd.concat([_probe(scored, name.replace("_", "-"), answers(n)) for name, n in right.items()])


def _probe(scored: Predictions, name: str, predicted: Sequence[str]) -> pd.DataFrame:
    # Not in the order of the predictions: what belongs together is told by image_id.
    frame = pd.DataFrame({"probe": name, "image_id": scored.image_id, "fold": scored.fold})
    frame[list(PROBABILITY_COLUMNS)] = probabilities(np.array([CLASSES.index(label) for label in predicted]))
    return frame.iloc[::-1]


def source_frame(scored: Predictions, probe: str, right: int) -> pd.DataFrame:
    """The source told right for the first `right` images."""
    wrong = {"east": "west", "west": "east"}
    told = [source if i < right else wrong[source] for i, source in enumerate(scored.source)]
    keys = {"probe": probe, "image_id": scored.image_id, "fold": scored.fold, "source": scored.source}
    return pd.DataFrame({**keys, "predicted": told}).iloc[::-1]


def unseen_frame(labels: Sequence[str], by_model: Mapping[tuple[str, int], Sequence[str]]) -> pd.DataFrame:
    """Images of the source `elsewhere` as each (strategy, fold) answers."""
    parts = []
    for (strategy, fold), predicted in by_model.items():
        number = range(len(labels))
        frame = pd.DataFrame(
            {
                "image_id": [f"new-{i}" for i in number],
                "group_id": [f"patient-{i}" for i in number],
                "source": "elsewhere",
                "label": list(labels),
                "strategy": strategy,
                "fold": fold,
            }
        )
        frame[list(PROBABILITY_COLUMNS)] = probabilities(np.array([CLASSES.index(label) for label in predicted]))
        parts.append(frame)
    return pd.concat(parts)
