"""Images of a manifest for `cxr benchmark robust`: frozen features of the views of each, kept in files if asked to."""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cxr_platform.config import Profile, RobustConfig
from cxr_platform.storage.files import write_atomically

if TYPE_CHECKING:
    from cxr_platform.evaluation.predictions import Array
    from cxr_platform.evidence.robust_ablation import AblationData
    from cxr_platform.intake.lung_views import ShownView
    from cxr_platform.manifest.store import Manifest

Lungs = Literal["outline", "segmenter"]
"""Where views take the lungs to be: in one outline for all images, or where the segmenter finds them."""


@dataclass(frozen=True)
class Setting:
    """Settings of a head to compare, and where its views take the lungs to be."""

    config: RobustConfig
    lungs: Lungs = "outline"


def views_of(settings: Iterable[Setting]) -> dict[Lungs, tuple["ShownView", ...]]:
    """Return the views whose features `settings` need, by where lungs are taken to be, in the order of first use."""
    from cxr_platform.intake.lung_views import views_needed

    views: dict[Lungs, dict[ShownView, None]] = {}
    for one in settings:
        needed = views_needed(one.config.views, one.config.appearance)
        views.setdefault(one.lungs, {}).update(dict.fromkeys(needed))
    return {lungs: tuple(of_lungs) for lungs, of_lungs in views.items()}


@dataclass(frozen=True)
class FeatureSource:
    """The manifest and profile whose features are wanted, the file of the weights, and a folder to keep features in."""

    manifest: "Manifest"
    profile: Profile
    imagenet_weights: Path | None = None
    cache: Path | None = None


def load_ablation_data(
    source: FeatureSource, views: Mapping[Lungs, tuple["ShownView", ...]]
) -> dict[Lungs, "AblationData"]:
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
    sides = table["width"].to_numpy(), table["height"].to_numpy()
    if source.cache is not None:
        source.cache.mkdir(parents=True, exist_ok=True)
    groups, folds = table["group_id"].to_numpy(str), table["fold_grouped"].to_numpy().astype(int)
    pixels, known = cache(lambda: manifest.pixels()[used]), dict[str, Any]()
    return {
        lungs: AblationData(
            np.array(labels),
            origins,
            groups,
            folds,
            _features(source, of_lungs, lungs, pixels, known, origins, *sides),
            source.cache,
        )
        for lungs, of_lungs in views.items()
    }


def _features(
    source: FeatureSource,
    views: tuple["ShownView", ...],
    lungs: Lungs,
    pixels: Callable[[], "Array"],
    known: dict[str, "Array"],
    origins: "Array",
    widths: "Array",
    heights: "Array",
) -> dict["ShownView", "Array"]:
    """Return the features of each view, by ONNX Runtime, which takes a third of the time of Keras on a processor.

    `known` are those that were computed already, by `feature_file`; further ones are added to it.
    """
    from cxr_platform.evidence.robust_ablation import array_bytes
    from cxr_platform.intake.lung_views import image_views
    from cxr_platform.models.weights import find_weights, sha256_of

    manifest, profile, folder = source.manifest, source.profile, source.cache
    weights = find_weights(profile.model.alpha, source.imagenet_weights)
    sha256 = sha256_of(weights)
    names = {view: feature_file(view, lungs, profile, manifest.content_hash, sha256, origins) for view in views}
    if folder is not None:
        known |= {name: np.load(folder / name) for name in names.values() if (folder / name).exists()}
    if missing := [view for view in views if names[view] not in known]:
        images, size = pixels(), profile.model.input_size
        masks = _lung_masks(lungs, images, widths, heights)
        shown = (
            (view, image_views(view, images, masks, widths, heights, origins, size=size, seed=profile.seed))
            for view in missing
        )
        for view, features in _computed(shown, profile, weights):
            known[names[view]] = features
            if folder is not None:
                write_atomically(folder / names[view], array_bytes(features))
    return {view: known[names[view]] for view in views}


def _lung_masks(lungs: Lungs, pixels: "Array", widths: "Array", heights: "Array") -> "Array":
    """Return the lungs (N, S, S) bool of letterboxed images; of the segmenter, where it finds none, the outline."""
    from cxr_platform.evidence.lung_regions import lung_regions
    from cxr_platform.intake.lung_field import lung_fields

    if lungs == "outline":
        return lung_fields(widths, heights, pixels.shape[1])
    return lung_regions(pixels, widths, heights).masks


def feature_file(
    view: "ShownView", lungs: Lungs, profile: Profile, manifest: str, imagenet: str, origins: "Array"
) -> str:
    """Return the name of the file of a view's features: another one for everything that they depend on.

    `manifest` is the content hash, `imagenet` the SHA-256 of the weights; the looks of `mixed-lungs` depend also on the
    seed and on the origins, and lungs of the segmenter on its weights.
    """
    parts = [view, str(profile.model.input_size), f"alpha{profile.model.alpha}", manifest[:12], imagenet[:8]]
    if view == "mixed-lungs":
        looks = repr((profile.seed, [str(origin) for origin in origins]))
        parts.append(hashlib.sha256(looks.encode()).hexdigest()[:8])
    if lungs == "segmenter" and view != "whole":
        from cxr_platform.models.lung_segmenter import packaged_segmenter

        parts.append(f"segmenter{packaged_segmenter()[1].sha256[:8]}")
    return f"{'-'.join(parts)}.npy"


def _computed(
    images: Iterator[tuple["ShownView", "Array"]], profile: Profile, weights: Path
) -> Iterator[tuple["ShownView", "Array"]]:
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
