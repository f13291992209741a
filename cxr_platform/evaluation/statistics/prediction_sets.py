"""Class-conditional conformal prediction sets from out-of-fold probabilities, and their coverage on other patients.

Each class has its own threshold (Mondrian conformal prediction), by MAPIE's LAC score, 1 − probability of the true
class (Sadinle, Lei & Wasserman 2019): at least the stated share of new images of a class reaches it, if they and the
calibration images are exchangeable. Images of one patient are not, so one image per patient, drawn at random, takes
part in the calibration. The networks and the temperature are not exactly those of a new image; that is why the
coverage is also measured, with thresholds of other patients.
"""

import math
from dataclasses import dataclass

import numpy as np
from mapie.conformity_scores import LACConformityScore

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.prediction_set import COVERAGE, ClassSets, PredictionSets, set_members
from cxr_platform.evaluation.predictions import Array, Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.calibration import fit_temperature, scale
from cxr_platform.labels import CLASSES


@dataclass(frozen=True)
class ClassThreshold:
    """The probability from which a class is in the set, by `patients`; `None` if they are too few."""

    patients: int
    threshold: float | None


def least_patients(coverage: float) -> int:
    """Return how many calibration patients a class needs for `coverage` (0 to 1): one over the share not covered."""
    return math.ceil(1 / (1 - coverage) - 1e-9)


def class_thresholds(
    probability: Array, label: Array, group: Array, coverage: float = COVERAGE, seed: int = 0
) -> tuple[ClassThreshold, ...]:
    """Return the threshold of each class from calibrated `probability` (N, 7) of images with `label` and `group` (N,).

    Of each group one image of the class takes part, drawn with `seed`.
    """
    order = np.random.default_rng(seed).permutation(len(label))
    score = LACConformityScore()
    thresholds = []
    for position in range(len(CLASSES)):
        of_class = order[label[order] == position]
        _, first = np.unique(group[of_class].astype(str), return_index=True)
        drawn = of_class[first]
        if len(drawn) < least_patients(coverage):
            thresholds.append(ClassThreshold(len(drawn), None))
            continue
        scores = score.get_conformity_scores(label[drawn], probability[drawn], y_enc=label[drawn])
        (quantile,) = score.get_conformity_score_quantiles(scores, np.array([1 - coverage]), cv="prefit")
        thresholds.append(ClassThreshold(len(drawn), min(1.0, max(0.0, 1 - float(quantile)))))
    return tuple(thresholds)


def prediction_sets(
    predictions: Predictions, strategy: str, bootstrap: Bootstrap, coverage: float = COVERAGE
) -> PredictionSets:
    """Return the sets of `strategy`: thresholds of all patients, for use, and the coverage of thresholds of others.

    The images of fold k are judged by temperature and thresholds of the patients who have no image in fold k. A class
    that these cannot be stated for, in each fold that states any, has no threshold for use either: sizes and coverage
    would be of other sets. Where no fold states any, thresholds come without coverage. The intervals do not include
    the uncertainty of the thresholds.
    """
    probability, label, group = predictions.probability[strategy], predictions.label, predictions.group_id
    members = np.zeros((len(label), len(CLASSES)), dtype=bool)
    stated = np.zeros((len(label), len(CLASSES)), dtype=bool)
    for k in range(predictions.folds):
        held_out = predictions.fold == k
        others = ~np.isin(group, group[held_out])
        if not others.any():
            continue
        temperature = fit_temperature(probability[others], label[others])
        scaled = scale(probability, temperature)
        chosen = class_thresholds(scaled[others], label[others], group[others], coverage, bootstrap.seed)
        thresholds = [choice.threshold for choice in chosen]
        members[held_out] = set_members(scaled[held_out], thresholds)
        stated[held_out] = [threshold is not None for threshold in thresholds]
    for_use = class_thresholds(
        scale(probability, fit_temperature(probability, label)), label, group, coverage, bootstrap.seed
    )
    judged = stated.any(axis=1)
    tested = stated[judged].all(axis=0)  # of every class where no fold leaves enough other patients
    members &= tested
    sizes = members.sum(axis=1)
    return PredictionSets(
        coverage=coverage,
        classes=tuple(
            ClassSets(
                label=name,
                patients=choice.patients,
                threshold=choice.threshold if tested[position] else None,
                coverage=Interval(None)
                if choice.threshold is None or not tested[position]
                else _coverage(members[:, position], (label == position) & stated[:, position], bootstrap),
            )
            for position, (name, choice) in enumerate(zip(CLASSES, for_use, strict=True))
        ),
        mean_size=float(sizes[judged].mean()) if judged.any() else None,
        single=bootstrap.rate(sizes == 1, judged),
        empty=bootstrap.rate(sizes == 0, judged),
    )


def _coverage(covered: Array, among: Array, bootstrap: Bootstrap) -> Interval:
    """Rate of `covered` (N,) `among` images (N,), in which each patient has the same weight."""
    images = bootstrap.group_sums(among.astype(float)[:, None])[bootstrap.position, 0]
    return bootstrap.rate(covered, np.where(among, 1 / np.maximum(images, 1), 0.0))
