from dataclasses import replace

import numpy as np
import pytest

from cxr_platform.intake.phantoms.film import FilmKey, draw_film
from cxr_platform.labels import CLASSES

FILMS_A_CLASS = 24
SIZE = 128


@pytest.fixture(scope="module")
def films() -> list[tuple[int, np.ndarray]]:
    """(class index, picture) of one film of each of 24 patients a class."""
    keys = [FilmKey(5, label, patient, 0) for label in CLASSES for patient in range(FILMS_A_CLASS)]
    return [(CLASSES.index(key.label), draw_film(key, SIZE).picture) for key in keys]


def accuracy(features: np.ndarray, labels: np.ndarray, model: object) -> float:
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    return float(cross_val_score(model, features, labels, cv=StratifiedKFold(4, shuffle=True, random_state=0)).mean())


def test_the_same_key_draws_the_same_film():
    key = FilmKey(1, "Edema", 2, 0)
    assert (draw_film(key, SIZE).picture == draw_film(key, SIZE).picture).all()


@pytest.mark.parametrize("change", [{"seed": 2}, {"label": "Normal"}, {"patient": 3}, {"film": 1}])
def test_another_key_draws_another_film(change: dict):
    key = FilmKey(1, "Edema", 2, 0)
    one, other = draw_film(key, SIZE).picture, draw_film(replace(key, **change), SIZE).picture
    assert one.shape != other.shape or np.abs(one - other).mean() > 0.02


def test_films_of_a_patient_share_the_anatomy_but_not_the_position():
    one, other = (draw_film(FilmKey(1, "Normal", 7, film), SIZE) for film in (0, 1))
    assert one.patient.rib_shifts == other.patient.rib_shifts
    assert (one.patient.sex, one.patient.age) == (other.patient.sex, other.patient.age)
    assert one.position != other.position


@pytest.mark.parametrize("size", [128, 320])
def test_a_film_has_the_height_asked_for_and_a_width_near_it(size: int):
    height, width = draw_film(FilmKey(1, "Covid19", 0, 0), size).picture.shape
    assert height == size
    assert 0.87 * size < width < 1.13 * size


def test_lungs_are_dark_beside_a_bright_mediastinum(films):
    for _, film in films:
        rows = film[int(0.35 * SIZE) : int(0.5 * SIZE)]
        profile = rows.mean(axis=0)
        centre = film.shape[1] // 2
        middle = profile[centre - 6 : centre + 7].max()
        assert profile[: centre - 10].min() < middle - 0.1
        assert profile[centre + 10 :].min() < middle - 0.1


def test_shape_and_brightness_tell_the_class_hardly_better_than_chance(films):
    from sklearn.ensemble import RandomForestClassifier

    shortcuts = np.array([(f.shape[1], f.shape[0], f.mean(), f.std(), f.shape[1] / f.shape[0]) for _, f in films])
    labels = np.array([label for label, _ in films])
    assert accuracy(shortcuts, labels, RandomForestClassifier(200, random_state=0)) < 0.30  # chance is 0.14


def test_pixels_tell_the_class_but_not_always(films):
    from PIL import Image
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    small = np.array([np.asarray(Image.fromarray(film).resize((48, 48))).ravel() for _, film in films])
    labels = np.array([label for label, _ in films])
    model = make_pipeline(PCA(40, random_state=0), LogisticRegression(max_iter=2000))
    assert 0.30 < accuracy(small, labels, model) < 0.80  # chance is 0.14
