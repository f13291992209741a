"""Images of a manifest for `cxr benchmark robust`: frozen features of the views of each, kept in files if asked to."""

import hashlib
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cxr_platform.config import Profile, RobustConfig, View
from cxr_platform.storage.files import write_atomically

if TYPE_CHECKING:
    from cxr_platform.evaluation.predictions import Array
    from cxr_platform.evidence.robust_ablation import AblationData, MixedLooks
    from cxr_platform.manifest.store import Manifest

Shown = View | Literal["mixed-lungs"]
"""A view to score, or the lungs with other looks, which heads with `appearance = "mixed"` are also trained on."""

Lungs = Literal["outline", "segmenter"]
"""Where views take the lungs to be: in one outline for all images, or where the segmenter finds them."""


@dataclass(frozen=True)
class Setting:
    """Settings of a head to compare, and where its views take the lungs to be."""

    config: RobustConfig
    lungs: Lungs = "outline"


def views_of(settings: Iterable[Setting]) -> dict[Lungs, tuple[Shown, ...]]:
    """Return the views whose features `settings` need, by where lungs are taken to be, in the order of first use."""
    views: dict[Lungs, dict[Shown, None]] = {}
    for one in settings:
        extra: tuple[Shown, ...] = ("mixed-lungs",) if one.config.appearance == "mixed" else ()
        views.setdefault(one.lungs, {}).update(dict.fromkeys((*one.config.views, *extra)))
    return {lungs: tuple(of_lungs) for lungs, of_lungs in views.items()}


@dataclass(frozen=True)
class FeatureSource:
    """The manifest and profile whose features are wanted, the file of the weights, and a folder to keep features in."""

    manifest: "Manifest"
    profile: Profile
    imagenet_weights: Path | None = None
    cache: Path | None = None


def load_ablation_data(source: FeatureSource, views: Mapping[Lungs, tuple[Shown, ...]]) -> dict[Lungs, "AblationData"]:
    """Return study and contrast images of the manifest with the features of `views`, by where lungs are taken to be."""
    from cxr_platform.evidence.robust_ablation import AblationData
    from cxr_platform.labels import class_index
    from cxr_platform.training.robust_head import CONTRAST

    manifest = source.manifest
    table = manifest.table(["role", "label", "source", "group_id", "fold_grouped", "width", "height"]).to_pandas()
    used = table["role"].isin(["study", "contrast"]).to_numpy()
    table = table[used].reset_index(drop=True)
    study = (table["role"] == "study").to_numpy()
    labels = [
        class_index(label) if in_study else CONTRAST for label, in_study in zip(table["label"], study, strict=True)
    ]
    origins = np.array([manifest.info.origins.get(source, source) for source in table["source"]])
    if source.cache is not None:
        source.cache.mkdir(parents=True, exist_ok=True)
    groups, folds = table["group_id"].to_numpy(str), table["fold_grouped"].to_numpy().astype(int)
    sides = table["width"].to_numpy(), table["height"].to_numpy()
    images = _Images(cache(lambda: manifest.pixels()[used]), *sides, origins)
    known, data = dict[str, Any](), dict[Lungs, AblationData]()
    for lungs, of_lungs in views.items():
        features, looks = _features(source, of_lungs, lungs, images, known)
        data[lungs] = AblationData(np.array(labels), origins, groups, folds, features, source.cache, looks)
    return data


@dataclass(frozen=True, eq=False)
class _Images:
    """Letterboxed images (N, S, S), read when they are needed, with the sides of their files and their origins (N,)."""

    pixels: Callable[[], "Array"]
    widths: "Array"
    heights: "Array"
    origins: "Array"


def _features(
    source: FeatureSource, views: Collection[Shown], lungs: Lungs, images: _Images, known: dict[str, "Array"]
) -> tuple[dict[View, "Array"], "MixedLooks | None"]:
    """Return the features of each view, and with `mixed-lungs` those of the looks.

    `known` are those that were computed already, by `feature_file`; further ones are added to it.
    """
    from cxr_platform.evidence.robust_ablation import MixedLooks, array_bytes
    from cxr_platform.intake.mixed_looks import donors_of_looks
    from cxr_platform.models.weights import find_weights, sha256_of

    profile, folder = source.profile, source.cache
    donors = donors_of_looks(images.origins, profile.seed)
    weights = find_weights(profile.model.alpha, source.imagenet_weights)
    facts = profile, source.manifest.content_hash, sha256_of(weights), images.origins
    shown = [(view, look) for view in views for look in range(len(donors) if view == "mixed-lungs" else 1)]
    names = {(view, look): feature_file(view, lungs, *facts, look) for view, look in shown}
    if folder is not None:
        known |= {name: np.load(folder / name) for name in names.values() if (folder / name).exists()}
    missing = {key: name for key, name in names.items() if name not in known}
    if missing:
        computed = _computed(_shown_images(missing, lungs, images, donors, profile), profile, weights)
        for name, (_, features) in zip(missing.values(), computed, strict=True):
            known[name] = features
            if folder is not None:
                write_atomically(folder / name, array_bytes(features))
    of_views: dict[View, Array] = {view: known[names[view, 0]] for view in views if view != "mixed-lungs"}
    if "mixed-lungs" not in views:
        return of_views, None
    return of_views, MixedLooks(donors, np.stack([known[names["mixed-lungs", look]] for look in range(len(donors))]))


def _shown_images(
    wanted: Collection[tuple[Shown, int]], lungs: Lungs, images: _Images, donors: "Array", profile: Profile
) -> Iterator[tuple[Shown, "Array"]]:
    """Yield each wanted view, or look of the lungs, with its images (N, size, size)."""
    from cxr_platform.intake.lung_views import image_views
    from cxr_platform.intake.mixed_looks import mixed

    pixels, sides = images.pixels(), (images.widths, images.heights)
    masks = _lung_masks(lungs, pixels, *sides)
    for view, look in wanted:
        shown = image_views("lungs" if view == "mixed-lungs" else view, pixels, masks, *sides, profile.model.input_size)
        if view == "mixed-lungs":
            shown = np.stack(list(mixed(shown, donors[look], profile.seed + look)))
        yield view, shown


def _lung_masks(lungs: Lungs, pixels: "Array", widths: "Array", heights: "Array") -> "Array":
    """Return the lungs (N, S, S) bool of letterboxed images; of the segmenter, where it finds none, the outline."""
    from cxr_platform.evidence.lung_regions import lung_regions
    from cxr_platform.intake.lung_field import lung_fields

    if lungs == "outline":
        return lung_fields(widths, heights, pixels.shape[1])
    return lung_regions(pixels, widths, heights).masks


def feature_file(
    view: Shown, lungs: Lungs, profile: Profile, manifest: str, imagenet: str, origins: "Array", look: int = 0
) -> str:
    """Return the name of the file of a view's features: another one for everything that they depend on.

    `manifest` is the content hash, `imagenet` the SHA-256 of the weights; a `look` of `mixed-lungs` depends also on the
    seed and on the origins, and lungs of the segmenter on its weights.
    """
    parts = [view, str(profile.model.input_size), f"alpha{profile.model.alpha}", manifest[:12], imagenet[:8]]
    if view == "mixed-lungs":
        drawn = repr((profile.seed, [str(origin) for origin in origins], look))
        parts.append(hashlib.sha256(drawn.encode()).hexdigest()[:8])
    if lungs == "segmenter" and view != "whole":
        from cxr_platform.models.lung_segmenter import packaged_segmenter

        parts.append(f"segmenter{packaged_segmenter()[1].sha256[:8]}")
    return f"{'-'.join(parts)}.npy"


def _computed(
    images: Iterator[tuple[Shown, "Array"]], profile: Profile, weights: Path
) -> Iterator[tuple[Shown, "Array"]]:
    """Yield the features (N, F) of images, by ONNX Runtime, which takes a third of the time of Keras on a processor."""
    from cxr_platform.champion.export import onnx_answers
    from cxr_platform.champion.onnx_graph import network_graph
    from cxr_platform.domain.strategies import strategy_by_name
    from cxr_platform.models.initial_weights import set_initial_weights
    from cxr_platform.models.mobilenet import build_network
    from cxr_platform.models.weights import load_backbone_weights

    alpha = profile.model.alpha
    network = build_network(strategy_by_name("off-the-shelf"), profile.model)
    set_initial_weights(network, 0, load_backbone_weights(weights, alpha))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "backbone.onnx"
        file.write_bytes(network_graph(network.full).SerializeToString())
        for view, shown in images:
            print(f"Features of {len(shown)} images, {view}", flush=True)
            yield view, onnx_answers(file, shown)[1]
