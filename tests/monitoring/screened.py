"""Films through a small stand-in for the champion: logistic regression on the films' coarse grey levels."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from cxr_platform.config import IntakeConfig
from cxr_platform.intake.films import Film, read_film
from cxr_platform.labels import CLASSES
from cxr_platform.monitoring.drift import Drift, Observation, drift
from cxr_platform.monitoring.reference import Reference, build_reference
from tests.monitoring.builders import window_of

SIDE = 8


@dataclass(frozen=True, eq=False)
class StandIn:
    """A model and the reference of the films that it was fitted on."""

    model: Pipeline
    reference: Reference

    @classmethod
    def fit(cls, films: Sequence[Film], labels: np.ndarray, groups: np.ndarray) -> "StandIn":
        """`labels` (N,) are positions in `CLASSES`."""
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-2, max_iter=2000))
        features = features_of(films)
        answers = cross_val_predict(model, features, labels, groups=groups, cv=GroupKFold(10), method="predict_proba")
        known = np.unique(labels)
        reference = build_reference(
            confidence=answers.max(axis=1),
            covid19=_covid19(answers, known),
            labels=known[answers.argmax(axis=1)],
            brightness=np.array([film.mean for film in films]),
            contrast=np.array([film.std for film in films]),
            padding=np.array([film.padding_fraction for film in films]),
            features=features,
            groups=groups,
        )
        return cls(model.fit(features, labels), reference)

    def drift(self, films: Sequence[Film]) -> dict[str, Drift]:
        """The drift of a window of these films."""
        features = features_of(films)
        answers, distance = self.model.predict_proba(features), self.reference.distance(features)
        known = self.model.classes_
        rows = zip(films, answers, _covid19(answers, known), distance, strict=True)
        return drift(
            window_of(
                [
                    Observation(
                        label=CLASSES[known[answer.argmax()]],
                        confidence=float(answer.max()),
                        covid19=float(covid19),
                        brightness=film.mean,
                        contrast=film.std,
                        padding=film.padding_fraction,
                        distance=float(far),
                    )
                    for film, answer, covid19, far in rows
                ]
            ),
            self.reference,
        )


def features_of(films: Sequence[Film]) -> np.ndarray:
    """(N, 64) grey levels from 0 to 255 of films reduced to 8 × 8."""
    small = [Image.fromarray(film.pixels).resize((SIDE, SIDE), Image.Resampling.BOX) for film in films]
    return np.stack([np.asarray(image, "float32").ravel() for image in small])


def altered(film: Film, contrast: float) -> Film:
    """The film with its grey levels' distances from their mean times `contrast`, inverted where that is negative."""
    grey = film.pixels[np.ix_(film.pixels.any(axis=1), film.pixels.any(axis=0))].astype(float)
    middle = grey.mean() if contrast > 0 else 127.5
    changed = np.clip(np.rint(middle + contrast * (grey - middle)), 0, 255).astype("uint8")
    with io.BytesIO() as file:
        Image.fromarray(changed).save(file, "PNG")
        return read_film(file.getvalue(), IntakeConfig())


def _covid19(answers: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Column of Covid19 (N,)."""
    return np.asarray(answers[:, known == CLASSES.index("Covid19")].sum(axis=1))
