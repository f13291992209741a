"""Leave one source out: is a class told on images of a source that the classifier has never seen an image of?"""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa

from cxr_platform.errors import NotPossible
from cxr_platform.evidence.classifiers import class_probabilities, fitted, on_features, probability_columns
from cxr_platform.evidence.features import whole_image_features
from cxr_platform.evidence.workspace import Workspace
from cxr_platform.labels import CLASSES
from cxr_platform.training.data import StudyData

TITLE = "One source left out"


def left_out(workspace: Workspace) -> Mapping[str, pa.Table]:
    """left_out: each image of a class with two sources or more, by the whole-image recipe fitted without its source.

    Fitted without any image of the source and of the groups of these. `trained_on` counts the images of the class that
    were left to learn from. Raises `NotPossible` where no class has two sources, `WeightsError` without ImageNet.
    """
    data = workspace.data
    sources = [s for s in np.unique(data.sources) if len(rows_to_test(data, s))]
    if not sources:
        raise NotPossible(
            "Leaving a source out needs a class with images of two sources or more.",
            received="one source for each class",
            advice="Add images of a class from another source.",
        )
    features = whole_image_features(workspace)
    return {"left_out": pa.concat_tables(_tables(workspace, features, sources))}


def rows_to_test(data: StudyData, source: str) -> np.ndarray:
    """Row numbers of the images of `source` whose class can be learnt from other sources, groups left out."""
    kept = training_rows(data, source)
    learnt = np.isin(data.labels, np.unique(data.labels[kept]))
    return np.flatnonzero((data.sources == source) & learnt)


def training_rows(data: StudyData, source: str) -> np.ndarray:
    """Row numbers of the images that share no source and no group with an image of `source`."""
    groups = np.unique(data.group_ids[data.sources == source])
    return np.flatnonzero((data.sources != source) & ~np.isin(data.group_ids, groups))


def _tables(workspace: Workspace, features: np.ndarray, sources: list[str]) -> Iterator[pa.Table]:
    data = workspace.data
    for done, source in enumerate(sources, 1):
        train, test = training_rows(data, source), rows_to_test(data, source)
        model = fitted(on_features, features[train], data.labels[train])
        counts = np.bincount(data.labels[train], minlength=len(CLASSES))
        yield _table(data, test, counts[data.labels[test]], class_probabilities(model, features[test]))
        workspace.progress(TITLE, done, len(sources))


def _table(data: StudyData, rows: np.ndarray, trained_on: np.ndarray, probabilities: np.ndarray) -> pa.Table:
    keys = {
        "image_id": data.image_ids[rows],
        "group_id": data.group_ids[rows],
        "source": data.sources[rows],
        "label": np.array(CLASSES)[data.labels[rows]],
        "trained_on": trained_on.astype("int32"),
    }
    return pa.table({**{k: pa.array(v) for k, v in keys.items()}, **probability_columns(probabilities)})
