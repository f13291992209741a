"""Out-of-fold predictions of a study, checked before anything is computed from them.

A missing fold, a duplicated or missing image, or strategies tested on different images or folds are errors: results
over incomplete predictions would look like any other results.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cxr_platform.domain.predictions import INDETERMINATE, KEY_COLUMNS, PROBABILITY_COLUMNS
from cxr_platform.domain.strategies import ROBUST
from cxr_platform.domain.study import StudyRecord
from cxr_platform.errors import PredictionsError, StudyError
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

Array: TypeAlias = npt.NDArray[Any]
"""Shapes, dtypes and ranges are in the docstrings; N is the number of images."""
POSITIVE = CLASSES.index(POSITIVE_CLASS)
"""Position of Covid19 in `CLASSES`."""
SUM_TOLERANCE = 1e-3  # float32 softmax is within 1e-6; half precision, which some GPUs train in, within 1e-3
NAMED = 5  # values that an error names

RERUN = "Run the same cross_validate command again: finished trials are kept, the others are trained."
REBUILD = "The file is damaged or was edited: remove it and run the same cross_validate command again."


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of N images, in the same order for all strategies.

    `label` (N,) has positions in `CLASSES`, `fold` (N,) is 0 … `folds` − 1. `probability[strategy]` is (N, 7): rows sum
    to 1, columns are in the order of `CLASSES`. `indeterminate[strategy]` (N,) bool are the answers at a gate, of the
    strategies that have one.
    """

    image_id: Array
    group_id: Array
    source: Array
    label: Array
    fold: Array
    folds: int
    probability: Mapping[str, Array]
    indeterminate: Mapping[str, Array] = field(default_factory=dict)


def load_predictions(folder: Path, study: StudyRecord) -> Predictions:
    """Read and check `folder`/predictions.parquet against `study`.

    Raise `PredictionsError`, naming strategy, fold and the first image ids, if rows are missing, duplicated or
    contradictory, or not probabilities, or if the profile has a gate and the rows of `robust` do not have its answers.
    """
    if study.protocol == "origins":
        raise StudyError(
            "Expected a study in which each image is predicted once, with the protocol grouped or paper.",
            received=f"{folder}, which leaves out {', '.join(study.left_out)} in turn",
            advice=f"The report of a grouped study shows it: cxr report --study … --origins {folder}",
        )
    path = folder / "predictions.parquet"
    frame = _read_checked(path, study)
    _check_each_image_once(path, frame)
    _check_number(path, frame, study)
    _check_agreement(path, frame, ("label", "fold", "group_id", "source"))
    if study.protocol == "grouped":
        _check_groups(path, frame)
    if ROBUST in study.strategies and study.profile.robust.gate:
        _check_gate(path, frame, study.name)
    return _aligned(frame, study)


def load_origin_predictions(folder: Path, study: StudyRecord) -> pd.DataFrame:
    """Read and check `folder`/predictions.parquet of a study with the protocol origins.

    `fold` is as in the file; `left_out` is the origin that the network was trained without, `origin` that of the image.
    Raise `StudyError` for another protocol, `PredictionsError` as `load_predictions`.
    """
    if study.protocol != "origins":
        raise StudyError(
            f"Expected {folder} to be a study with the protocol origins.",
            received=study.protocol,
            advice="make study PROTOCOL=origins runs one.",
        )
    path = folder / "predictions.parquet"
    frame = _read_checked(path, study)
    duplicates = frame[frame.duplicated(["strategy", "fold", "image_id"], keep=False)]
    if len(duplicates):
        raise PredictionsError(
            f"{path}: expected each image once per strategy and fold.", received=_images(duplicates), advice=REBUILD
        )
    for fold, rows in frame.groupby("fold"):
        images = rows["image_id"].value_counts()
        incomplete = rows[rows["image_id"].isin(images[images < len(study.strategies)].index)]
        if len(incomplete):
            raise PredictionsError(
                f"{path}: expected the same images of fold {fold} for every strategy.",
                received=f"some strategies lack {_images(incomplete)}",
                advice=RERUN,
            )
    _check_agreement(path, frame, ("label", "group_id", "source"))
    origin = frame["source"].map(study.manifest.origin_of)
    return frame.assign(left_out=np.array(study.left_out, object)[frame["fold"]], origin=origin)


def check_against_manifest(predictions: Predictions, study: StudyRecord, table: pa.Table, content_hash: str) -> None:
    """Check that `predictions` cover exactly the study images of the manifest that the study was run on.

    `table` has the columns image_id, role and label. Raise `PredictionsError` naming the first images that differ.
    """
    if content_hash != study.manifest.content_hash:
        raise PredictionsError(
            f"Expected the manifest {study.manifest.content_hash} that study {study.name!r} was run on.",
            received=content_hash,
            advice="The manifest was rebuilt since: run the study on it under another name.",
        )
    frame = table.select(["image_id", "role", "label"]).to_pandas()
    expected = frame[frame["role"] == "study"].set_index("image_id")["label"].to_dict()
    received = dict(zip(predictions.image_id, (CLASSES[i] for i in predictions.label), strict=True))
    missing, foreign = expected.keys() - received.keys(), received.keys() - expected.keys()
    relabelled = {i for i in expected.keys() & received.keys() if expected[i] != received[i]}
    for ids, problem in ((missing, "without prediction"), (foreign, "not in it"), (relabelled, "of another label")):
        if ids:
            raise PredictionsError(
                f"Expected predictions for exactly the study images of the manifest {study.manifest.path}.",
                received=f"{len(ids)} images {problem}: {_some(sorted(ids))}",
                advice=REBUILD,
            )


def _read_checked(path: Path, study: StudyRecord) -> pd.DataFrame:
    """Read the file, and check what holds for every protocol."""
    frame = _read(path)
    _check_filled(path, frame)
    _check_names(path, frame, study)
    _check_complete(path, frame, study)
    _check_probabilities(path, frame)
    return frame


def _read(path: Path) -> pd.DataFrame:
    columns = [*KEY_COLUMNS, *PROBABILITY_COLUMNS]
    try:
        present = pq.read_schema(path).names
        missing = [c for c in columns if c not in present]
        if missing:
            raise PredictionsError(f"{path}: expected the columns {', '.join(missing)}.", advice=REBUILD)
        optional = [INDETERMINATE] if INDETERMINATE in present else []
        frame: pd.DataFrame = pq.read_table(path, columns=columns + optional).to_pandas()
    except FileNotFoundError as error:
        raise PredictionsError(
            f"Expected out-of-fold predictions at {path}.", received="no file", advice=RERUN
        ) from error
    except (OSError, pa.ArrowException) as error:
        raise PredictionsError(f"Expected a Parquet file at {path}.", received=error, advice=REBUILD) from error
    return frame


def _check_filled(path: Path, frame: pd.DataFrame) -> None:
    empty = frame[frame[list(KEY_COLUMNS)].isna().any(axis=1)]
    if len(empty):
        raise PredictionsError(
            f"{path}: expected {', '.join(KEY_COLUMNS)} in every row.",
            received=f"{len(empty)} rows with a missing value, the first is row {empty.index[0]}",
            advice=REBUILD,
        )


def _check_names(path: Path, frame: pd.DataFrame, study: StudyRecord) -> None:
    known = {"label": CLASSES, "strategy": study.strategies, "fold": tuple(range(study.folds))}
    for column, names in known.items():
        wrong = frame[~frame[column].isin(names)]
        if len(wrong):
            raise PredictionsError(
                f"{path}: expected {column} out of {', '.join(map(str, names))}.",
                received=f"{_some(wrong[column].unique())} for {_images(wrong)}",
                advice=REBUILD,
            )


def _check_complete(path: Path, frame: pd.DataFrame, study: StudyRecord) -> None:
    present = set(zip(frame["strategy"], frame["fold"], strict=True))
    missing = [f"{s} fold {k}" for s in study.strategies for k in range(study.folds) if (s, k) not in present]
    if missing:
        raise PredictionsError(
            f"{path}: expected predictions of {len(study.strategies)} strategies on each of {study.folds} folds.",
            received=f"none for {_some(missing)}",
            advice=RERUN,
        )


def _check_each_image_once(path: Path, frame: pd.DataFrame) -> None:
    images = set(frame["image_id"])
    for strategy, rows in frame.groupby("strategy", sort=False):
        duplicates = rows[rows["image_id"].duplicated(keep=False)]
        if len(duplicates):
            raise PredictionsError(
                f"{path}: expected each image once per strategy.",
                received=f"duplicates in {strategy}, folds {_some(sorted(duplicates['fold'].unique()))}: "
                + _images(duplicates),
                advice=REBUILD,
            )
        missing = images - set(rows["image_id"])
        if missing:
            elsewhere = frame[frame["image_id"].isin(missing)]
            raise PredictionsError(
                f"{path}: expected the same images for every strategy.",
                received=f"missing in {strategy}, folds {_some(sorted(elsewhere['fold'].unique()))}: "
                + _images(elsewhere),
                advice=RERUN,
            )


def _check_number(path: Path, frame: pd.DataFrame, study: StudyRecord) -> None:
    expected, received = study.manifest.study_images, frame["image_id"].nunique()
    if received != expected:
        raise PredictionsError(
            f"{path}: expected predictions for the {expected} study images of the manifest.",
            received=f"{received} images",
            advice=REBUILD,
        )


def _check_probabilities(path: Path, frame: pd.DataFrame) -> None:
    values = frame[list(PROBABILITY_COLUMNS)].to_numpy(dtype=float)
    with np.errstate(invalid="ignore"):
        valid = np.isfinite(values).all(axis=1) & (values >= 0).all(axis=1)
        valid &= np.abs(values.sum(axis=1) - 1) <= SUM_TOLERANCE
    if not valid.all():
        wrong = frame[~valid]
        where = sorted({f"{s} fold {k}" for s, k in zip(wrong["strategy"], wrong["fold"], strict=True)})
        raise PredictionsError(
            f"{path}: expected seven finite probabilities that sum to 1 (± {SUM_TOLERANCE}).",
            received=f"{len(wrong)} invalid rows in {_some(where)}: {_images(wrong)}",
            advice="Training of these trials diverged: lower the learning rate and run the study under another name.",
        )


def _check_agreement(path: Path, frame: pd.DataFrame, columns: Sequence[str]) -> None:
    for column in columns:
        variants = frame.groupby("image_id")[column].nunique(dropna=False)
        differing = variants[variants > 1].index
        if len(differing):
            raise PredictionsError(
                f"{path}: expected one {column} for each image in every strategy.",
                received=f"several for {_images(frame[frame['image_id'].isin(differing)])}",
                advice=REBUILD,
            )


def _check_groups(path: Path, frame: pd.DataFrame) -> None:
    folds = frame.groupby("group_id")["fold"].nunique()
    split = folds[folds > 1].index
    if len(split):
        raise PredictionsError(
            f"{path}: expected every group (patient, duplicates) in one fold, as the protocol “grouped” requires.",
            received=f"{len(split)} groups in several folds: {_some(split)}",
            advice="The results would be too high. Build the manifest again and run the study on it.",
        )


def _check_gate(path: Path, frame: pd.DataFrame, name: str) -> None:
    rows = frame[frame["strategy"] == ROBUST]
    empty = rows[rows[INDETERMINATE].isna()] if INDETERMINATE in rows else rows
    if len(empty):
        folds = ", ".join(map(str, sorted(empty["fold"].unique())))
        raise PredictionsError(
            f"{path}: expected the column {INDETERMINATE} in every row of {ROBUST}, as study {name!r} has gate = true.",
            received=f"{'no value' if INDETERMINATE in rows else 'no such column'} for folds {folds}: {_images(empty)}",
            advice=f"Delete {path.parent / 'trials' / ROBUST} and run the same cross_validate command again: only the "
            f"trials of {ROBUST} are run again.",
        )


def _aligned(frame: pd.DataFrame, study: StudyRecord) -> Predictions:
    frame = frame.sort_values("image_id", kind="stable")
    parts = {s: frame[frame["strategy"] == s] for s in study.strategies}
    images = parts[study.strategies[0]]
    gated = {s: part for s, part in parts.items() if INDETERMINATE in frame and part[INDETERMINATE].notna().all()}
    return Predictions(
        image_id=images["image_id"].to_numpy(dtype=object),
        group_id=images["group_id"].to_numpy(dtype=object),
        source=images["source"].to_numpy(dtype=object),
        label=images["label"].map(CLASSES.index).to_numpy(dtype=int),
        fold=images["fold"].to_numpy(dtype=int),
        folds=study.folds,
        probability={s: part[list(PROBABILITY_COLUMNS)].to_numpy(dtype=float) for s, part in parts.items()},
        indeterminate={s: part[INDETERMINATE].to_numpy(dtype=bool) for s, part in gated.items()},
    )


def _images(frame: pd.DataFrame) -> str:
    unique = frame["image_id"].unique()
    return f"{len(unique)} image{'s' * (len(unique) != 1)} ({_some(unique)})"


def _some(values: Iterable[object]) -> str:
    named = [str(value) for value in values]
    return ", ".join(named[:NAMED]) + (f" and {len(named) - NAMED} more" if len(named) > NAMED else "")
