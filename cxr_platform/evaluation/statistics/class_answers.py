"""How often the images of each class of an external source are called each class, beside the same in cross-validation.

Specificity is one figure for all images of a source without Covid19. Whether it is adult normals or other pneumonias
that are called Covid19, and what normals are called if not Normal, only shows class by class.
"""

from collections.abc import Sequence

import pandas as pd

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.findings import ClassAnswers
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.external import cross_validated_images, ensemble_images
from cxr_platform.evaluation.statistics.outside import answer_shares
from cxr_platform.labels import CLASSES


def class_answers(
    frame: pd.DataFrame, predictions: Predictions, strategies: Sequence[str], seed: int
) -> list[ClassAnswers]:
    """Return the answers for each strategy (in the order given), source, and class of its images.

    `frame` has the columns of the evidence part `external`; each image is scored by the mean of its folds' models.
    """
    return [
        answers
        for strategy in strategies
        for answers in _of_strategy(frame[frame["strategy"] == strategy], predictions, strategy, seed)
    ]


def _of_strategy(frame: pd.DataFrame, predictions: Predictions, strategy: str, seed: int) -> list[ClassAnswers]:
    inside = cross_validated_images(predictions, strategy)
    of_study = Bootstrap(inside.groups, seed=seed)
    internal: dict[int, tuple[Interval, ...]] = {}
    found = []
    for source, rows in frame.groupby("source"):
        images = ensemble_images(rows)
        bootstrap = Bootstrap(images.groups, seed=seed)
        for position, label in enumerate(CLASSES):
            among = images.labels == position
            if not among.any():
                continue
            if position not in internal:  # the same for all sources
                internal[position] = answer_shares(inside, of_study, inside.labels == position)
            found.append(
                ClassAnswers(
                    source=str(source),
                    label=label,
                    strategy=strategy,
                    images=int(among.sum()),
                    groups=bootstrap.groups_among(among),
                    shares=answer_shares(images, bootstrap, among),
                    internal=internal[position],
                )
            )
    return found
