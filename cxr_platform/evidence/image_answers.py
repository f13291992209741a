"""One answer per image of a folder, as a table that a person opens: the mean of the winner's networks, and a decision.

`predictions.parquet` has a row for each network. Here each file of the folder has one row, refused files with the
reason in place of an answer.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa

from cxr_platform.domain.operating_point import DecisionRule, is_negative, is_positive
from cxr_platform.domain.predictions import INDETERMINATE, PROBABILITY_COLUMNS, SOURCE_PATH
from cxr_platform.evaluation.predictions import POSITIVE, Array
from cxr_platform.evaluation.statistics.calibration import scale
from cxr_platform.intake.candidate import Refusal
from cxr_platform.labels import CLASSES

ANSWER_COLUMNS: Mapping[str, str] = {
    SOURCE_PATH: "the file, `FOLDER/relative/path`",
    "image_id": "the image in predictions.parquet; empty for a refused file",
    "label": "its class, if the folder states one",
    "finding": "of an image of none of the seven classes: its finding, in the words of the folder",
    "answer": "the most probable class by the mean of the winner's networks; empty for a refused file",
    "probability": "mean probability of that class over the folds, 0 to 1, not calibrated",
    "agreeing_folds": "number of the winner's networks whose most probable class is the answer",
    "covid19_probability": "calibrated probability of Covid19, 0 to 1: mean over the folds after temperature scaling; "
    "empty without an operating point",
    "decision": "positive, negative or indeterminate, by covid19_probability at the operating point for 95 % "
    "sensitivity that the study's out-of-fold predictions give; empty without one. Of `robust` with a gate also "
    "indeterminate where the heads of half of the networks or more disagree",
    "reason": "why the file is refused; empty for an answer",
    "detail": "more about the reason",
}
"""Columns of answers.csv with their meaning."""
DIGITS = 6


def image_answers(
    predictions: pa.Table, excluded: Mapping[str, Refusal], winner: str, calibrated: tuple[float, DecisionRule] | None
) -> pd.DataFrame:
    """Return `ANSWER_COLUMNS`, one row per file, sorted by source_path.

    `predictions` has a row per image, strategy and fold, as `external_images.predict_external` returns them. `excluded`
    maps the source_path of refused files to the reason. `calibrated` is the temperature and the rule for probabilities
    at it; with `None` there are no decisions.
    """
    frame = predictions.to_pandas()
    frame = frame[frame["strategy"] == winner].sort_values(["image_id", "fold"], kind="stable")
    images = frame.drop_duplicates("image_id")
    by_fold = frame[list(PROBABILITY_COLUMNS)].to_numpy(float).reshape(len(images), -1, len(CLASSES))
    mean = by_fold.mean(axis=1)
    answer = mean.argmax(axis=1)
    answers = pd.DataFrame(
        {
            SOURCE_PATH: images[SOURCE_PATH].to_numpy(),
            "image_id": images["image_id"].to_numpy(),
            "label": images["label"].to_numpy(),
            "finding": images["finding"].to_numpy(),
            "answer": np.array(CLASSES)[answer],
            "probability": np.round(mean.max(axis=1), DIGITS),
            "agreeing_folds": (by_fold.argmax(axis=2) == answer[:, np.newaxis]).sum(axis=1),
            **({} if calibrated is None else _decisions(by_fold, _disagreeing(frame, len(images)), *calibrated)),
        }
    )
    refused = pd.DataFrame([{SOURCE_PATH: path, **vars(refusal)} for path, refusal in excluded.items()])
    table = pd.concat([answers, refused]).reindex(columns=list(ANSWER_COLUMNS)).sort_values(SOURCE_PATH)
    return table.astype({"agreeing_folds": "Int64"}).reset_index(drop=True)


def _disagreeing(frame: pd.DataFrame, images: int) -> Array:
    """Return where (N,) the heads of half of the networks or more disagree; nowhere without a gate."""
    if INDETERMINATE not in frame:
        return np.zeros(images, bool)
    return np.asarray(frame[INDETERMINATE].eq(True).to_numpy().reshape(images, -1).mean(axis=1) >= 0.5)


def _decisions(by_fold: Array, disagreeing: Array, temperature: float, rule: DecisionRule) -> dict[str, Array]:
    """Return the two columns of the decision from probabilities (N, folds, 7)."""
    scaled = scale(by_fold.reshape(-1, len(CLASSES)), temperature)[:, POSITIVE]
    covid19 = scaled.reshape(by_fold.shape[:2]).mean(axis=1)
    called = [is_positive(covid19, rule.zone) & ~disagreeing, is_negative(covid19, rule.zone) & ~disagreeing]
    return {
        "covid19_probability": np.round(covid19, DIGITS),
        "decision": np.select(called, ["positive", "negative"], "indeterminate"),
    }
