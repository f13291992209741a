"""What the winner looks at: heatmaps of its answers, each by the network that has not seen the image."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cxr_platform.evaluation.sections.failures import confident_mistakes, confident_right
from cxr_platform.evidence.networks import fold_networks
from cxr_platform.evidence.workspace import Workspace
from cxr_platform.explain.lung_field import field_shares, image_areas, lung_fields
from cxr_platform.explain.saliency import heatmaps
from cxr_platform.labels import CLASSES
from cxr_platform.models.frozen import chunks

IMAGES_PER_CLASS = 60
TITLE = "Heatmaps"
FINE = 4  # pixels of the lung field along each side of a heatmap's cell


@dataclass(frozen=True)
class Explained:
    """Heatmaps (n, side, side) of one fold's images; `rows` (n,) are theirs in the study's predictions."""

    fold: int
    rows: np.ndarray
    maps: np.ndarray


def explanations(workspace: Workspace) -> Mapping[str, pa.Table]:
    """Tables `lung_share` (a seeded sample of up to 60 images a class) and `heatmaps` (the images that are shown)."""
    sample, shown = sampled_rows(workspace), shown_rows(workspace)
    explained = list(explain_rows(workspace, workspace.winner, np.union1d(sample, shown)))
    return {
        "lung_share": pa.concat_tables([_shares_table(workspace, part, sample) for part in explained]),
        "heatmaps": pa.concat_tables([_maps_table(workspace, part, shown) for part in explained]),
    }


def sampled_rows(workspace: Workspace) -> np.ndarray:
    """Rows of the predictions whose lung share is measured: up to `IMAGES_PER_CLASS` a class, drawn with the study's
    seed."""
    rng = np.random.default_rng([workspace.profile.seed, 4])
    labels = workspace.predictions.label
    drawn = [rng.permutation(np.flatnonzero(labels == label))[:IMAGES_PER_CLASS] for label in range(len(CLASSES))]
    return np.sort(np.concatenate(drawn))


def shown_rows(workspace: Workspace) -> np.ndarray:
    """Rows of the predictions that the report shows: confident mistakes and confident right answers of the winner."""
    predictions, winner = workspace.predictions, workspace.winner
    return np.union1d(confident_mistakes(predictions, winner), confident_right(predictions, winner))


def explain_rows(workspace: Workspace, strategy: str, rows: np.ndarray) -> Iterator[Explained]:
    """Heatmaps of the predicted class for `rows` of the predictions, fold by fold, by the network of `strategy` that
    was not trained on them."""
    predictions, done = workspace.predictions, 0
    predicted = predictions.probability[strategy].argmax(axis=1)
    for fold, network in fold_networks(workspace, strategy, np.unique(predictions.fold[rows]).tolist()):
        mine = rows[predictions.fold[rows] == fold]
        images, parts = images_of(workspace, mine), []
        for chunk in chunks(len(mine)):
            parts.append(heatmaps(network, images[chunk], predicted[mine[chunk]]))
            done += len(parts[-1])
            workspace.progress(TITLE, done, len(rows))
        yield Explained(fold, mine, np.concatenate(parts))


def images_of(workspace: Workspace, rows: np.ndarray) -> np.ndarray:
    """The images (n, S, S) uint8 of `rows` of the predictions, which are in another order than the manifest."""
    place = {image_id: i for i, image_id in enumerate(workspace.data.image_ids)}
    return np.asarray(workspace.data.images[[place[image_id] for image_id in workspace.predictions.image_id[rows]]])


def lung_shares(maps: np.ndarray, widths: np.ndarray, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For maps (n, side, side): the share (n,) of their heat inside the lung field, NaN for a map of zeros, and the
    share (n,) of the image that the field is. Heat on the padding counts as outside of the lungs."""
    side = maps.shape[1]
    fields, areas = (made(widths, heights, FINE * side) for made in (lung_fields, image_areas))
    cells = fields.reshape(len(maps), side, FINE, side, FINE).mean(axis=(2, 4))
    heat = maps.sum(axis=(1, 2))
    inside = (maps * cells).sum(axis=(1, 2))
    return np.divide(inside, heat, out=np.full(len(maps), np.nan), where=heat > 0), field_shares(fields, areas)


def _shares_table(workspace: Workspace, part: Explained, sample: np.ndarray) -> pa.Table:
    kept = np.isin(part.rows, sample)
    rows, predictions = part.rows[kept], workspace.predictions
    widths, heights = sides(workspace, predictions.image_id[rows])
    share, field = lung_shares(part.maps[kept], widths, heights)
    predicted = predictions.probability[workspace.winner][rows].argmax(axis=1)
    return pa.table(
        {
            "image_id": predictions.image_id[rows].astype(str),
            "label": np.array(CLASSES)[predictions.label[rows]],
            "predicted": np.array(CLASSES)[predicted],
            "strategy": [workspace.winner] * len(rows),
            "fold": np.full(len(rows), part.fold, "int32"),
            "share": share,
            "field_share": field,
        }
    )


def _maps_table(workspace: Workspace, part: Explained, shown: np.ndarray) -> pa.Table:
    kept = np.isin(part.rows, shown)
    rows, predictions, maps = part.rows[kept], workspace.predictions, part.maps[kept]
    predicted = predictions.probability[workspace.winner][rows].argmax(axis=1)
    return pa.table(
        {
            "image_id": predictions.image_id[rows].astype(str),
            "strategy": [workspace.winner] * len(rows),
            "fold": np.full(len(rows), part.fold, "int32"),
            "target": np.array(CLASSES)[predicted],
            "side": np.full(len(rows), maps.shape[1], "int32"),
            "heatmap": maps_column(maps),
        }
    )


def maps_column(maps: np.ndarray) -> pa.Array:
    """Maps (n, side, side) as a column of lists of float16, row by row."""
    return pa.array(list(maps.reshape(len(maps), -1).astype("float16")), pa.list_(pa.float16()))


def sides(workspace: Workspace, image_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Widths and heights (n,) of the original images, in the order of `image_ids`."""
    facts = workspace.manifest.table(["image_id", "width", "height"]).to_pandas().set_index("image_id")
    mine = facts.loc[list(image_ids)]
    return mine["width"].to_numpy(), mine["height"].to_numpy()
