"""Images through a small stand-in for the champion: logistic regression on the images' coarse grey levels."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from cxr_platform.config import IntakeConfig
from cxr_platform.intake.images import ChestImage, read_image
from cxr_platform.labels import CLASSES
from cxr_platform.monitoring.drift import Drift, Observation, drift
from cxr_platform.monitoring.reference import Reference, build_reference
from tests.monitoring.builders import window_of

SIDE = 8


@dataclass(frozen=True, eq=False)
class StandIn:
    """A model and the reference of the images that it was fitted on."""

    model: Pipeline
    reference: Reference

    @classmethod
    def fit(cls, images: Sequence[ChestImage], labels: np.ndarray, groups: np.ndarray) -> "StandIn":
        """`labels` (N,) are positions in `CLASSES`."""
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-2, max_iter=2000))
        features = features_of(images)
        answers = cross_val_predict(model, features, labels, groups=groups, cv=GroupKFold(10), method="predict_proba")
        known = np.unique(labels)
        reference = build_reference(
            confidence=answers.max(axis=1),
            covid19=_covid19(answers, known),
            labels=known[answers.argmax(axis=1)],
            brightness=np.array([image.mean for image in images]),
            contrast=np.array([image.std for image in images]),
            padding=np.array([image.padding_fraction for image in images]),
            features=features,
            groups=groups,
        )
        return cls(model.fit(features, labels), reference)

    def drift(self, images: Sequence[ChestImage]) -> dict[str, Drift]:
        """The drift of a window of these images."""
        features = features_of(images)
        answers, distance = self.model.predict_proba(features), self.reference.distance(features)
        known = self.model.classes_
        rows = zip(images, answers, _covid19(answers, known), distance, strict=True)
        return drift(
            window_of(
                [
                    Observation(
                        label=CLASSES[known[answer.argmax()]],
                        confidence=float(answer.max()),
                        covid19=float(covid19),
                        brightness=image.mean,
                        contrast=image.std,
                        padding=image.padding_fraction,
                        distance=float(far),
                    )
                    for image, answer, covid19, far in rows
                ]
            ),
            self.reference,
        )


def features_of(images: Sequence[ChestImage]) -> np.ndarray:
    """(N, 64) grey levels from 0 to 255 of images reduced to 8 × 8."""
    small = [PIL.Image.fromarray(image.pixels).resize((SIDE, SIDE), PIL.Image.Resampling.BOX) for image in images]
    return np.stack([np.asarray(grey, "float32").ravel() for grey in small])


def altered(image: ChestImage, contrast: float) -> ChestImage:
    """The image with its grey levels' distances from their mean times `contrast`, inverted where that is negative."""
    grey = image.pixels[np.ix_(image.pixels.any(axis=1), image.pixels.any(axis=0))].astype(float)
    middle = grey.mean() if contrast > 0 else 127.5
    changed = np.clip(np.rint(middle + contrast * (grey - middle)), 0, 255).astype("uint8")
    with io.BytesIO() as file:
        PIL.Image.fromarray(changed).save(file, "PNG")
        return read_image(file.getvalue(), IntakeConfig())


def _covid19(answers: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Column of Covid19 (N,)."""
    return np.asarray(answers[:, known == CLASSES.index("Covid19")].sum(axis=1))
