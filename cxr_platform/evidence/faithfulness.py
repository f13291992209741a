"""Whether heatmaps show what the network uses: deletion and insertion curves, and maps after weights are randomised.

Deletion removes the places of an image in the order of their heat, hottest first, and insertion adds them to a blurred
image (Petsiuk et al. 2018, arXiv:1806.07421): if the map is faithful, the probability of the class falls, or rises,
faster than in a random order. A map should also change when the weights of the network are randomised, from the last
layers downwards (Adebayo et al. 2018, arXiv:1810.03292).
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
from scipy import ndimage, stats

from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.errors import NotPossible
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evidence.explanations import images_of, sampled_rows
from cxr_platform.evidence.fold_networks import fold_networks
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.explain.saliency import check_has_heatmaps, heatmaps
from cxr_platform.labels import CLASSES
from cxr_platform.models.mobilenet import Network
from cxr_platform.training.trial import predict_images

IMAGES_PER_CLASS = 7
SHARES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
"""Shares of the image that are removed or inserted: denser at the beginning, where a faithful map differs most."""
BLUR = 0.06
"""Deviation of the Gaussian filter that removes a place, as a share of the side."""
MODES, ORDERS = ("deletion", "insertion"), ("heatmap", "random")
STAGES = {
    "output layer": ("head_logits",),
    "head": ("head_logits", "head_bn", "head_dense"),
    "head and last blocks": ("head_logits", "head_bn", "head_dense", "Conv_1", "block_16", "block_15", "block_14"),
}
"""What is randomised, one after another: name → beginnings of the names of its layers."""
OTHER_IMAGE = "another image"
"""In place of randomised weights: the map of another image of the same class and network, as the reference."""
TITLE = "Faithfulness of heatmaps"


def faithfulness(opened: OpenStudy) -> Mapping[str, pa.Table]:
    """Return tables `faithfulness` (curves) and `randomised` (similarities), of up to 7 images per class.

    Raise `WeightsError` if the winner needs ImageNet weights that cannot be found, `NotPossible` if all maps are empty.
    """
    check_has_heatmaps(strategy_by_name(opened.winner))
    rows, predictions = sampled_rows(opened, IMAGES_PER_CLASS), opened.predictions
    predicted = predictions.probability[opened.winner].argmax(axis=1)
    curves, similarities, done = [], [], 0
    for fold, network in fold_networks(opened, opened.winner, np.unique(predictions.fold[rows]).tolist()):
        mine = rows[predictions.fold[rows] == fold]
        done += len(mine)
        maps = heatmaps(network, images_of(opened, mine), predicted[mine])
        mine, maps = mine[maps.any(axis=(1, 2))], maps[maps.any(axis=(1, 2))]  # an empty map has no order
        if not len(mine):
            continue
        images = images_of(opened, mine)
        rng = np.random.default_rng([opened.profile.seed, 6, fold])
        curves += list(_curves(opened, network, mine, images, maps, rng))
        similarities += list(_similarities(opened, network, mine, images, maps, rng))
        opened.progress.step(TITLE, done, len(rows))
    if not curves:
        raise NotPossible("No heatmap of the winner shows any place.")
    return {"faithfulness": pa.concat_tables(curves), "randomised": pa.concat_tables(similarities)}


def _curves(
    opened: OpenStudy, network: Network, rows: Array, images: Array, maps: Array, rng: np.random.Generator
) -> Iterator[pa.Table]:
    targets = opened.predictions.probability[opened.winner][rows].argmax(axis=1)
    random = rng.random(maps.shape)
    ranks = {"heatmap": cell_ranks(maps, random), "random": cell_ranks(random, random)}
    cases = [(mode, order, share) for mode in MODES for order in ORDERS for share in SHARES]
    removed = smoothed(images)
    between = {case: altered(images, removed, ranks[case[1]], case[2], case[0]) for case in cases if 0 < case[2] < 1}
    every = np.concatenate([images, removed, *between.values()])  # one call: full batches
    whole, none, *answers = np.split(predict_images(network, every), len(between) + 2)
    found = dict(zip(between, answers, strict=True))
    for mode, order, share in cases:  # both orders begin and end with the same images
        end = whole if share == (mode == "insertion") else none
        probability = found.get((mode, order, share), end)[np.arange(len(rows)), targets]
        yield _table(opened, rows, {"mode": mode, "order": order, "share": share}, {"probability": probability})


def smoothed(images: Array) -> Array:
    """Return images (n, S, S) uint8 after a Gaussian filter, under which no place shows what it had."""
    filtered = [ndimage.gaussian_filter(image, BLUR * images.shape[1]) for image in images.astype("float32")]
    return np.asarray(np.rint(filtered), np.uint8)


def altered(images: Array, removed: Array, ranks: Array, share: float, mode: str) -> Array:
    """Return images (n, S, S) uint8 of which the `share` of cells with the first `ranks` is `removed`, or alone kept.

    `ranks` are (n, side, side) from 0 to 1, 0 for the hottest cell. Mode "deletion" takes these cells from `removed`
    (n, S, S), "insertion" all others.
    """
    size, side = images.shape[1], ranks.shape[1]
    cell = np.arange(size) * side // size  # of each row and column of pixels
    first = (ranks < share)[:, cell][:, :, cell]
    return np.where(first == (mode == "deletion"), removed, images)


def cell_ranks(values: Array, ties: Array) -> Array:
    """Return the rank of each cell of maps (n, side, side), as a share of their number: 0 for the largest value.

    Equal values, such as the zeros that make up most of a heatmap, are in the order of `ties` (n, side, side).
    """
    flat, order = values.reshape(len(values), -1), ties.reshape(len(ties), -1)
    ranks = np.argsort(np.lexsort((order, -flat), axis=1), axis=1) / flat.shape[1]
    return np.asarray(ranks.reshape(values.shape))


def _similarities(
    opened: OpenStudy, network: Network, rows: Array, images: Array, maps: Array, rng: np.random.Generator
) -> Iterator[pa.Table]:
    targets = opened.predictions.probability[opened.winner][rows].argmax(axis=1)
    others = np.array([_another(i, targets) for i in range(len(rows))], int)
    elsewhere = np.where(others == np.arange(len(rows)), np.nan, similarity(maps, maps[others]))
    yield _table(opened, rows, {"randomised": OTHER_IMAGE}, {"similarity": elsewhere})
    weights = network.full.get_weights()
    try:
        for stage, layers in STAGES.items():
            network.full.set_weights(weights)
            shuffle_weights(network, layers, rng)
            changed = heatmaps(network, images, targets)
            yield _table(opened, rows, {"randomised": stage}, {"similarity": similarity(maps, changed)})
    finally:
        network.full.set_weights(weights)


def shuffle_weights(network: Network, layers: tuple[str, ...], rng: np.random.Generator) -> None:
    """Permute the values of every array of the layers whose names begin with one of `layers`."""
    for layer in network.full.layers:
        if layer.weights and any(layer.name == name or layer.name.startswith(f"{name}_") for name in layers):
            layer.set_weights([rng.permutation(w.ravel()).reshape(w.shape) for w in layer.get_weights()])


def similarity(first: Array, second: Array) -> Array:
    """Return Spearman's correlation (n,) of the cells of maps (n, side, side); NaN for a map without differences."""
    pairs = zip(first.reshape(len(first), -1), second.reshape(len(second), -1), strict=True)
    return np.array([stats.spearmanr(a, b)[0] if np.ptp(a) > 0 and np.ptp(b) > 0 else np.nan for a, b in pairs])


def _another(row: int, targets: Array) -> int:
    """Return another position with the same target, or `row` itself if there is none."""
    same = np.flatnonzero(targets == targets[row])
    return int(same[(np.searchsorted(same, row) + 1) % len(same)])


def _table(opened: OpenStudy, rows: Array, constant: Mapping[str, object], values: Mapping[str, Array]) -> pa.Table:
    predictions, count = opened.predictions, len(rows)
    return pa.table(
        {
            "image_id": predictions.image_id[rows].astype(str),
            "label": np.array(CLASSES)[predictions.label[rows]],
            "strategy": [opened.winner] * count,
            "fold": predictions.fold[rows].astype("int32"),
            **{name: [value] * count for name, value in constant.items()},
            **{name: np.asarray(array, "float64") for name, array in values.items()},
        }
    )
