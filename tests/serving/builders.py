"""A registry with a champion that can be served: a small graph, with the reference of drawn thoraces."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cxr_platform.config import ModelConfig, View
from cxr_platform.labels import CLASSES
from cxr_platform.monitoring.reference import build_reference
from cxr_platform.registry.bundle import MODEL_CARD, ONNX, REFERENCE, WEIGHTS, Bundle
from cxr_platform.registry.promotion import promote
from cxr_platform.registry.store import Registry
from cxr_platform.serving.screener import open_session
from tests.intake.files import png, thorax
from tests.registry.builders import STUDY, changed, make_bundle, preprocessing

SIZE = 32
CELLS = 4
IMAGES = 40
BRIGHTER, DARKER = 5, 6
Fill = Callable[[Path, str], Bundle]


def image(seed: int, size: int = 200) -> NDArray[np.uint8]:
    """Return a drawn thorax with random brightness, noise and shift."""
    rng = np.random.default_rng(seed)
    values = np.roll(thorax(size).astype(float) * rng.uniform(0.85, 1.1), rng.integers(-4, 5), axis=1)
    return np.clip(values + rng.normal(0, 6, values.shape), 0, 255).astype(np.uint8)


def image_png(seed: int = 0, size: int = 200) -> bytes:
    return png(image(seed, size))


def graph(seed: int = 0, views: Sequence[View] = (), gate: bool = False) -> bytes:
    """images (B, 32, 32) uint8 → features: means of 8 × 8 pixels (B, 16); logits: one layer of them (B, 7).

    With `views` images are (B, V, 32, 32), features (B, V · 16). With a `gate` its heads disagree on images that are
    brighter at `BRIGHTER` than at `DARKER`, two cells on either side of the middle.
    """
    features = CELLS**2 * max(1, len(views))
    rng = np.random.default_rng(seed)
    weights = {
        "axes": np.array([1], np.int64),
        "weight": rng.normal(0, 0.02, (features, len(CLASSES))).astype(np.float32),
        "bias": rng.normal(0, 0.5, len(CLASSES)).astype(np.float32),
    }
    cell = SIZE // CELLS
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node(*(("Identity", ["floats"]) if views else ("Unsqueeze", ["floats", "axes"])), ["planes"]),
        helper.make_node("AveragePool", ["planes"], ["pooled"], kernel_shape=[cell, cell], strides=[cell, cell]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "weight", "bias"], ["logits"]),
    ]
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(CLASSES)]),
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", features]),
    ]
    if gate:
        for name, place in (("brighter", BRIGHTER), ("darker", DARKER)):
            weights[name] = np.array([place], np.int64)
            nodes.append(helper.make_node("Gather", ["features", name], [f"at_{name}"], axis=1))
        nodes.append(helper.make_node("Greater", ["at_brighter", "at_darker"], ["disagreement"]))
        outputs.append(helper.make_tensor_value_info("disagreement", TensorProto.BOOL, ["batch", 1]))
    made = helper.make_graph(
        nodes,
        "small",
        [
            helper.make_tensor_value_info(
                "images", TensorProto.UINT8, ["batch", *([len(views)] if views else []), SIZE, SIZE]
            )
        ],
        outputs,
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def filler(
    seed: int = 0, weights: bytes = b"weights", views: tuple[View, ...] = (), gate: bool = False, **changes: Any
) -> Fill:
    """Return what `Registry.add` calls: it writes a bundle of the graph with this seed and a wide distance limit.

    With `views` it is one of `robust`, which may have a `gate`.
    """

    def fill(folder: Path, version: str) -> Bundle:
        (folder / ONNX).write_bytes(graph(seed, views, gate))
        (folder / WEIGHTS).write_bytes(weights)
        (folder / MODEL_CARD).write_text(f"# {version}\n", encoding="utf-8")
        write_reference(folder / REFERENCE, graph(seed, views), views)
        small = {
            "preprocessing": preprocessing(SIZE),
            "model": ModelConfig(input_size=SIZE, alpha=0.35, dense_units=8),
            "synthetic": True,
        }
        if views:
            small |= {"strategy": "robust", "study": changed(STUDY, strategies=("scratch", "robust"))}
            small |= {"preprocessing": changed(preprocessing(SIZE), views=views)}
        return make_bundle(version, **{**small, **changes})

    return fill


def write_reference(path: Path, content: bytes, views: Sequence[View] = ()) -> None:
    from cxr_platform.intake.letterbox import resize_images
    from cxr_platform.intake.lung_views import stacked_views

    drawn, sides = np.stack([image(seed) for seed in range(IMAGES)]), np.full(IMAGES, 200)
    images = stacked_views(views, drawn, sides, sides, SIZE) if views else resize_images(drawn, SIZE)
    _, features = open_session(content, 1).run(["logits", "features"], {"images": images})
    rng = np.random.default_rng(0)
    reference = build_reference(
        confidence=rng.uniform(0.3, 1, IMAGES),
        covid19=rng.uniform(0, 1, IMAGES),
        labels=rng.integers(0, len(CLASSES), IMAGES),
        brightness=drawn.mean(axis=(1, 2)) / 255,
        contrast=drawn.std(axis=(1, 2)) / 255,
        padding=np.zeros(IMAGES),
        features=features,
        groups=np.arange(IMAGES),
    )
    replace(reference, model=replace(reference.model, limit=3 * reference.limit)).write(path)


def registry_with_champion(root: Path, **changes: Any) -> Registry:
    """Return a registry with v1 as champion."""
    registry = Registry(root)
    registry.add(filler(**changes))
    promote(registry, "v1", lead_seconds=0)
    return registry
