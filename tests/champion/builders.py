"""A study of made-up predictions, its manifest and the weights of a champion, in the format of training."""

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pyarrow as pa

from cxr_platform.champion.assemble import ChampionInputs
from cxr_platform.config import ModelConfig, Profile, RobustConfig
from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.domain.study import NO_FOLD, TrialImages, read_study
from cxr_platform.evaluation.predictions import load_predictions
from cxr_platform.labels import CLASSES
from cxr_platform.manifest.schema import PIXELS, manifest_schema
from cxr_platform.manifest.store import Manifest, open_manifest, write_images, write_info
from cxr_platform.models.augment import to_network_input
from cxr_platform.models.initial_weights import set_initial_weights
from cxr_platform.models.mobilenet import Network, build_network
from cxr_platform.models.robust_network import build_robust_network
from cxr_platform.training.champion import Champion
from cxr_platform.training.data import load_study_data
from tests.evaluation.builders import image_frame, write_study
from tests.kept_folder import kept_folder
from tests.manifest.info import manifest_info
from tests.study_records import trial_record
from tests.training.builders import tiny_profile

SIDE, FOLDS, HASH = 32, 2, "b3f0c4de"
MODEL = ModelConfig(input_size=SIDE, alpha=0.35, dense_units=32)
COUNTS = {"Covid19": 40, "Pneumonia": 40, "Normal": 40, "Edema": 12, "Effusion": 12, "Emphysema": 12, "Fibrosis": 12}
CERTAINTY = {"scratch": 2.0, "off-the-shelf": 1.0}


@dataclass(frozen=True)
class Made:
    """Where the parts lie."""

    study: Path
    manifest: Manifest
    weights: Path


@cache
def champion_profile() -> Profile:
    return replace(tiny_profile(), model=MODEL)


def answers(images: pd.DataFrame, strategy: str, certainty: float, seed: int) -> pd.DataFrame:
    """Return predictions from noisy logits in which the image's class is raised by `certainty`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(images), len(CLASSES)))
    logits[np.arange(len(images)), images["label"].map(CLASSES.index)] += certainty
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    frame = images.assign(strategy=strategy)
    frame[list(PROBABILITY_COLUMNS)] = shares.astype("float32")
    return frame


def made_study(root: Path, certainty: dict[str, float] = CERTAINTY, *, synthetic: bool = False, **counts: int) -> Path:
    """Write a study folder; `counts` are images per class."""
    images = image_frame({**COUNTS, **counts}, FOLDS)
    parts = [answers(images, name, value, seed) for seed, (name, value) in enumerate(certainty.items())]
    folder = write_study(root, pd.concat(parts, ignore_index=True), synthetic=synthetic)
    tree = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps({**tree, "profile": champion_profile().to_dict()}))
    return folder


def made_manifest(root: Path) -> Manifest:
    """Return the images of `made_study` in another order than its predictions, and one external, all-white image."""
    images = image_frame(COUNTS, FOLDS).assign(role="study")
    outside = images[:1].assign(image_id="outside", role="external", fold=-1)
    images = pd.concat([images.sample(frac=1, random_state=1), outside], ignore_index=True)
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (len(images), SIDE, SIDE)).astype("uint8")
    pixels[-1] = 255
    columns = {
        **{name: images[name] for name in ("image_id", "source", "label", "group_id", "role")},
        **dict.fromkeys(("source_path", "file_sha256", "pixel_sha256", "phash"), images["image_id"]),
        **{"finding": images["label"], "patient_id": images["group_id"], "color_mode": "L"},
        **{"view": np.where(np.arange(len(images)) % 3, "PA", "AP"), "age": np.float32(50), "sex": "F"},
        **{name: np.int32(200) for name in ("width", "height", "bit_depth")},
        "mean": (pixels.mean(axis=(1, 2)) / 255).astype("float32"),
        "std": (pixels.std(axis=(1, 2)) / 255).astype("float32"),
        "padding_fraction": np.linspace(0, 0.5, len(images), dtype="float32"),
        **{f"fold_{name}": images["fold"].astype("int32") for name in ("paper", "grouped")},
        **dict.fromkeys(("reader_label", "reader_finding")),
    }
    schema = manifest_schema(SIDE)
    rows = pa.Table.from_pandas(
        pd.DataFrame(columns), schema=schema.remove(schema.get_field_index(PIXELS)), preserve_index=False
    )
    root.mkdir(parents=True)
    write_images(root, rows, lambda start, stop: pixels[start:stop], SIDE)
    intake = champion_profile().intake
    config = replace(intake, decoding=replace(intake.decoding, image_size=SIDE))
    write_info(root, manifest_info(content_hash=HASH, images=len(images), files=len(images), config=config))
    return open_manifest(root)


def made_network(seed: int = 1, strategy: str = "scratch", config: ModelConfig = MODEL) -> Network:
    """Return a network of random weights whose batch normalisation is close to its inputs, so that answers differ.

    Fitted exactly to the inputs, 52 random layers would amplify every rounding error, unlike a trained network.
    """
    network = build_network(strategy_by_name(strategy), config)
    set_initial_weights(
        network, seed, {layer.name: layer.get_weights() for layer in network.full.layers if layer.weights}
    )
    norms = [layer for layer in network.full.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:
        layer.momentum = 0.003
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (16, config.input_size, config.input_size)).astype("uint8")
    network.full(to_network_input(pixels), training=True)
    return network


def made_weights(file: Path, seed: int = 1) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    made_network(seed).full.save_weights(file)
    return file


def made_robust_weights(file: Path, network: Network, robust: RobustConfig) -> Path:
    """Write weights of a network of `robust` with the backbone of `network` and random heads."""
    backbone = {layer.name: layer.get_weights() for layer in network.full.layers if layer.weights}
    made = build_robust_network(network.config, robust, backbone)
    head, rng = made.full.get_layer("head_logits"), np.random.default_rng(6)
    head.set_weights([rng.normal(0, 0.05, array.shape).astype("float32") for array in head.get_weights()])
    file.parent.mkdir(parents=True, exist_ok=True)
    made.full.save_weights(file)
    return file


def made_champion(weights: Path, strategy: str = "scratch", **identity: object) -> Champion:
    known = {"strategy": strategy, "manifest": HASH, "seed": 2020, **identity}
    images = TrialImages(train=sum(COUNTS.values()), test=0)
    record = trial_record(strategy, NO_FOLD, 12.5, identity=known, images=images, epochs=3, accuracy=None)
    return Champion(weights.parent, record)


@cache
def made() -> Made:
    """One of each, kept for all tests of the process."""
    root = kept_folder()
    weights = made_weights(root / "champion" / "model.weights.h5")
    return Made(made_study(root / "runs" / "test"), made_manifest(root / "manifest"), weights)


def champion_inputs(study: Path | None = None, **identity: object) -> ChampionInputs:
    """What a bundle is made from, of the `study` that is given."""
    parts = made()
    folder = study or parts.study
    described = read_study(folder)
    data = load_study_data(parts.manifest, "grouped", FOLDS, SIDE)
    predictions, champion = load_predictions(folder, described), made_champion(parts.weights, **identity)
    return ChampionInputs(folder, described, predictions, champion_profile(), parts.manifest, data, champion)
