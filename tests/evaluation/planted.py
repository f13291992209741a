"""Studies of one strategy whose sources, classes and answers are set image by image."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cxr_platform.config import load_profile
from cxr_platform.evaluation.evidence_files import Evidence
from cxr_platform.evaluation.metrics import source_counts
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.report_inputs import ManifestImages, ReportInputs
from cxr_platform.evaluation.study_results import compute_study_results
from cxr_platform.labels import CLASSES
from tests.evaluation.builders import probabilities
from tests.study_records import manifest_facts, study_record

STRATEGY = "scratch"


def predictions(source: Sequence[str], label: Sequence[str], predicted: Sequence[str] | None = None) -> Predictions:
    """One image a group, two folds in turn; without `predicted` every answer is right."""
    actual = np.array([CLASSES.index(name) for name in label])
    answers = actual if predicted is None else np.array([CLASSES.index(name) for name in predicted])
    number = np.arange(len(actual))
    return Predictions(
        image_id=np.array([f"image-{i:05d}" for i in number], dtype=object),
        group_id=np.array([f"group-{i:05d}" for i in number], dtype=object),
        source=np.array(source, dtype=object),
        label=actual,
        fold=number % 2,
        folds=2,
        probability={STRATEGY: probabilities(answers)},
    )


def report_inputs(
    scored: Predictions,
    facts: Mapping[str, Sequence[Any]] | None = None,
    *,
    synthetic: bool = False,
    external: Mapping[str, Mapping[str, int]] | None = None,
) -> ReportInputs:
    """`facts` are columns of the manifest (view, sex, age), `external` images by class and source."""
    inside = source_counts(scored)
    counts = {c: {**inside[c], **(external or {}).get(c, {})} for c in CLASSES}
    count = len(scored.image_id)
    manifest = manifest_facts(images=count, study_images=count, synthetic=synthetic, counts=counts)
    profile = load_profile("quick", {"folds": 2, "seed": 1})
    study = study_record(name="planted", strategies=(STRATEGY,), profile=profile, manifest=manifest)
    images = None
    if facts is not None:
        frame = pd.DataFrame({"view": None, "sex": None, "age": np.nan, **facts}, index=pd.Index(scored.image_id))
        images = ManifestImages(frame, lambda _: np.zeros((0, 8, 8), np.uint8))
    return ReportInputs(study, scored, compute_study_results(study, scored), images, Evidence())
