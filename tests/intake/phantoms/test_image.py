from dataclasses import replace

import numpy as np
import pytest

from cxr_platform.intake.phantoms.image import ImageKey, draw_image, draw_lateral
from cxr_platform.labels import CLASSES

IMAGES_PER_CLASS = 24
SIZE = 128


@pytest.fixture(scope="module")
def images() -> list[tuple[int, np.ndarray]]:
    """(class index, picture) of one image of each of 24 patients per class."""
    keys = [ImageKey(5, label, patient, 0) for label in CLASSES for patient in range(IMAGES_PER_CLASS)]
    return [(CLASSES.index(key.label), draw_image(key, SIZE).picture) for key in keys]


def accuracy(features: np.ndarray, labels: np.ndarray, model: object) -> float:
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    return float(cross_val_score(model, features, labels, cv=StratifiedKFold(4, shuffle=True, random_state=0)).mean())


def test_the_same_key_draws_the_same_image():
    key = ImageKey(1, "Edema", 2, 0)
    assert (draw_image(key, SIZE).picture == draw_image(key, SIZE).picture).all()


@pytest.mark.parametrize("change", [{"seed": 2}, {"label": "Normal"}, {"patient": 3}, {"image": 1}])
def test_another_key_draws_another_image(change: dict):
    key = ImageKey(1, "Edema", 2, 0)
    one, other = draw_image(key, SIZE).picture, draw_image(replace(key, **change), SIZE).picture
    assert one.shape != other.shape or np.abs(one - other).mean() > 0.02


def test_images_of_a_patient_share_the_anatomy_but_not_the_position():
    one, other = (draw_image(ImageKey(1, "Normal", 7, image), SIZE) for image in (0, 1))
    assert one.patient.rib_shifts == other.patient.rib_shifts
    assert (one.patient.sex, one.patient.age) == (other.patient.sex, other.patient.age)
    assert one.position != other.position


@pytest.mark.parametrize("size", [128, 320])
def test_an_image_has_the_requested_height_and_a_similar_width(size: int):
    height, width = draw_image(ImageKey(1, "Covid19", 0, 0), size).picture.shape
    assert height == size
    assert 0.87 * size < width < 1.13 * size


def test_lungs_are_dark_beside_a_bright_mediastinum(images):
    for _, image in images:
        rows = image[int(0.35 * SIZE) : int(0.5 * SIZE)]
        profile = rows.mean(axis=0)
        centre = image.shape[1] // 2
        middle = profile[centre - 6 : centre + 7].max()
        assert profile[: centre - 10].min() < middle - 0.1
        assert profile[centre + 10 :].min() < middle - 0.1


def test_shape_and_brightness_predict_the_class_hardly_better_than_chance(images):
    from sklearn.ensemble import RandomForestClassifier

    shortcuts = np.array([(f.shape[1], f.shape[0], f.mean(), f.std(), f.shape[1] / f.shape[0]) for _, f in images])
    labels = np.array([label for label, _ in images])
    assert accuracy(shortcuts, labels, RandomForestClassifier(200, random_state=0)) < 0.30  # chance is 0.14


def test_pixels_predict_the_class_but_not_perfectly(images):
    from PIL import Image
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    small = np.array([np.asarray(Image.fromarray(image).resize((48, 48))).ravel() for _, image in images])
    labels = np.array([label for label, _ in images])
    model = make_pipeline(PCA(40, random_state=0), LogisticRegression(max_iter=2000))
    assert 0.30 < accuracy(small, labels, model) < 0.80  # chance is 0.14


def test_a_lateral_image_depends_on_its_seed_only():
    (one, patient), (again, _) = (draw_lateral(np.random.default_rng(4), 128) for _ in range(2))
    assert (one == again).all()
    assert one.shape[0] == 128
    assert patient.age >= 18


def test_a_lateral_image_has_one_dark_lung_field_before_the_spine():
    for seed in range(4):
        image, _ = draw_lateral(np.random.default_rng(seed), 128)
        row = image[45:60].mean(axis=0)
        inside = row[int(0.25 * len(row)) : int(0.75 * len(row))]
        assert inside.min() < inside.max() - 0.15
