"""Planted truth: small made-up chests of which it is known where the sign of the class is."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from scipy.ndimage import gaussian_filter

from cxr_platform.config import load_profile
from cxr_platform.errors import WeightsError
from cxr_platform.evaluation.evidence_files import Evidence
from cxr_platform.evaluation.metrics import source_counts
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.study_results import compute_study_results
from cxr_platform.evidence.open_study import OpenStudy
from cxr_platform.intake.lung_field import lung_fields
from cxr_platform.labels import CLASSES
from cxr_platform.models.initial_weights import BackboneWeights
from cxr_platform.models.weights import find_weights, load_backbone_weights
from cxr_platform.progress import NoProgress
from cxr_platform.training.data import StudyData
from tests.study_records import manifest_facts, study_record

Kind = Literal["corner", "lungs"]
Planted = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

LABELS = tuple(CLASSES.index(name) for name in ("Covid19", "Pneumonia", "Normal"))
SOURCES = ("east", "west")
FOLDS = 3


def planted_images(kind: Kind, per_class: int = 40, size: int = 64, seed: int = 0) -> Planted:
    """Return images (N, size, size) uint8, labels (N,) as positions in `CLASSES`, sources and groups (N,) of str.

    Three classes with a pattern each: bars, dots or none. `corner` draws it outside of the body in the upper left
    corner, over lungs that are noise; `lungs` inside the lungs. Both sources have as many images of each class, and
    every second image is of the same patient as the one before it of its class and source.
    """
    rng = np.random.default_rng(seed)
    number = np.arange(per_class)
    labels = np.repeat(LABELS, per_class)
    sources = np.tile(np.array(SOURCES)[number % 2], len(LABELS))
    groups = np.array([f"{label}-{i % 2}-{i // 4}" for label in LABELS for i in number])
    images = np.stack([_image(kind, LABELS.index(label), size, rng) for label in labels])
    return images, labels, sources, groups


def sign_area(kind: Kind, size: int) -> np.ndarray:
    """Where the pattern of the class is drawn, bool (size, size)."""
    if kind == "lungs":
        return lungs(size)
    area = np.zeros((size, size), bool)
    area[1 : size // 6, 1 : size // 5] = True
    return area


def lungs(size: int) -> np.ndarray:
    """Two ellipses, bool (size, size), well inside the lung field of a square image."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    return sum(((x - centre) / 0.13) ** 2 + ((y - 0.47) / 0.27) ** 2 < 1 for centre in (0.32, 0.68)) > 0


def _image(kind: Kind, which: int, size: int, rng: np.random.Generator) -> np.ndarray:
    grey = 150 + 12 * gaussian_filter(rng.normal(size=(size, size)), 2) * 4
    grey[lungs(size)] -= 70
    grey += rng.normal(0, 6, (size, size)) + rng.normal(0, 8)
    pattern = _pattern(which, size, rng)
    grey[sign_area(kind, size)] += pattern[sign_area(kind, size)]
    return np.clip(grey, 0, 255).astype("uint8")


def _pattern(which: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Grey levels (size, size) to add: slanted bars, dots, or nothing; their place differs from image to image."""
    y, x = np.mgrid[:size, :size] + rng.integers(0, 8, 2)[:, None, None]
    if which == 0:
        return 90.0 * ((x + y) % 8 < 4)
    if which == 1:
        return 120.0 * ((x % 6 < 3) & (y % 6 < 3))
    return np.zeros((size, size))


def planted_study(kind: Kind, imagenet: BackboneWeights | None, *, size: int = 64, seed: int = 0) -> OpenStudy:
    """Return an open study of square planted images, with file facts unrelated to class and source."""
    images, labels, sources, groups = planted_images(kind, size=size, seed=seed)
    ids = np.array([f"image-{i:03d}" for i in range(len(images))])
    folds = _group_folds(groups)
    paths = np.array([f"{source}/{name}.png" for source, name in zip(sources, ids, strict=True)])
    data = StudyData(images, labels, folds, ids, groups, sources, paths)
    overrides = {"folds": FOLDS, "model.input_size": size, "augmentation.views": 1, "resources.cpu": 1.0}
    return made_open_study(data, planted_facts(data, seed), load_profile("quick", overrides), imagenet)


class RecordedSteps(NoProgress):
    """Keeps every reported step."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int]] = []

    def step(self, task: str, done: int, total: int) -> None:
        self.steps.append((task, done, total))


def made_open_study(data: StudyData, facts: pa.Table, profile: Any, imagenet: BackboneWeights | None) -> OpenStudy:
    """An open study without files; the manifest is `facts`."""
    study = study_record(profile=profile)
    folder: Any = SimpleNamespace(root=Path("nowhere"))
    manifest: Any = SimpleNamespace(table=facts.select, content_hash="abc")
    opened = OpenStudy(folder, study, None, "scratch", manifest, NoProgress())  # type: ignore[arg-type]
    opened.__dict__.update(data=data)  # a cached property
    if imagenet is not None:
        opened.__dict__.update(imagenet=imagenet)
    return opened


def recorded_shapes(module: Any, monkeypatch: pytest.MonkeyPatch) -> set[tuple[int, ...]]:
    """Give `module` networks that answer anything alike; return the shapes of the images that they will have got."""
    shapes: set[tuple[int, ...]] = set()

    def predicted(_network: object, images: np.ndarray) -> np.ndarray:
        shapes.add(images.shape[1:])
        return np.full((len(images), 7), 1 / 7, "float32")

    monkeypatch.setattr(
        module, "fold_networks", lambda opened, *_: ((fold, None) for fold in range(opened.study.folds))
    )
    monkeypatch.setattr(module, "predict_images", predicted)
    return shapes


def planted_facts(data: StudyData, seed: int) -> pa.Table:
    """What a manifest says of the images beside their pixels; sizes and grey levels drawn without regard to class."""
    rng, count = np.random.default_rng([seed, 9]), len(data.labels)
    side = rng.integers(300, 2000, count).astype("int32")
    return pa.table(
        {
            "image_id": data.image_ids,
            "source_path": data.source_paths,
            "group_id": data.group_ids,
            "source": data.sources,
            "label": np.array(CLASSES)[data.labels],
            "role": ["study"] * count,
            "width": side,
            "height": side,
            "bit_depth": np.full(count, 8, "int32"),
            "color_mode": rng.choice(["L", "RGB"], count),
            "padding_fraction": np.zeros(count, "float32"),
            "mean": rng.uniform(0.4, 0.6, count).astype("float32"),
            "std": rng.uniform(0.1, 0.3, count).astype("float32"),
        }
    )


def _group_folds(groups: np.ndarray) -> np.ndarray:
    """Whole groups in turn to the folds, within a class."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(group, len(seen)) % FOLDS for group in groups])


def inside_lung_field(size: int) -> np.ndarray:
    """The lung field of a square image, bool (size, size)."""
    return lung_fields(np.array([size]), np.array([size]), size)[0]


def published_weights() -> BackboneWeights:
    """ImageNet's weights; skips where this machine has none."""
    try:
        return load_backbone_weights(find_weights(1.0), 1.0)
    except WeightsError as error:
        pytest.skip(str(error))


def study_material(data: StudyData, probabilities: np.ndarray) -> ReportInputs:
    """A study of one strategy that answered with `probabilities` (N, 7), without evidence and manifest."""
    predictions = Predictions(
        data.image_ids, data.group_ids, data.sources, data.labels, data.folds, FOLDS, {"scratch": probabilities}
    )
    counts, count = source_counts(predictions), len(data.labels)
    manifest = manifest_facts(images=count, study_images=count, synthetic=False, counts=counts)
    study = study_record(profile=load_profile("quick", {"folds": FOLDS, "seed": 1}), manifest=manifest)
    return ReportInputs(study, predictions, compute_study_results(study, predictions), None, Evidence())
