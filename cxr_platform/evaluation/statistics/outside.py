"""How often images of none of the seven classes are called each class, beside the same in cross-validation.

A network of seven classes has to give one of them to every image. Whether that is Covid19 shows if it goes by signs of
the disease, or by what images of sick patients have in common.
"""

from collections.abc import Iterator, Sequence

import pandas as pd

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.findings import OutsideFinding
from cxr_platform.evaluation.predictions import POSITIVE, Array, Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.external import (
    ScoredImages,
    contradicts,
    cross_validated_images,
    ensemble_images,
)
from cxr_platform.labels import CLASSES

SHOWN_FINDINGS = 12


def outside_findings(
    frame: pd.DataFrame, predictions: Predictions, strategies: Sequence[str], seed: int
) -> list[OutsideFinding]:
    """Return for each strategy (in the order given) and source one finding over all images, then one per finding.

    `frame` has the columns of the evidence part `outside`; each image is scored by the mean of its folds' models. A
    source whose images have one finding has no further ones, and one with many only those of the most images.
    """
    return [
        found
        for strategy in strategies
        for source, rows in frame[frame["strategy"] == strategy].groupby("source")
        for found in _of_source(rows, (str(source), strategy), _called_in_folds(predictions, strategy, seed), seed)
    ]


def _called_in_folds(predictions: Predictions, strategy: str, seed: int) -> Interval:
    """Return the share of the study's images without Covid19 that are called Covid19, in percent."""
    inside = cross_validated_images(predictions, strategy)
    return Bootstrap(inside.groups, seed=seed).rate(inside.predicted == POSITIVE, inside.labels != POSITIVE)


def _of_source(rows: pd.DataFrame, names: tuple[str, str], internal: Interval, seed: int) -> Iterator[OutsideFinding]:
    stated = stated_findings(rows)
    counted = stated[~rows["image_id"].duplicated()].value_counts(sort=False)
    alone = "" if len(counted) > 1 else str(counted.index[0])
    yield _finding(rows, names, alone, internal, seed, whole=True)
    if len(counted) > 1:
        most_first = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
        for name, _ in most_first[:SHOWN_FINDINGS]:
            yield _finding(rows[stated == name], names, str(name), internal, seed, whole=False)


def _finding(
    rows: pd.DataFrame, names: tuple[str, str], finding: str, internal: Interval, seed: int, *, whole: bool
) -> OutsideFinding:
    images = ensemble_images(rows)
    bootstrap = Bootstrap(images.groups, seed=seed)
    shares = answer_shares(images, bootstrap)
    source, strategy = names
    return OutsideFinding(
        source=source,
        finding=finding,
        whole=whole,
        strategy=strategy,
        images=len(images.predicted),
        groups=bootstrap.groups,
        called=int((images.predicted == POSITIVE).sum()),
        shares=shares,
        internal=internal,
        higher=contradicts(internal, shares[POSITIVE]),
    )


def stated_findings(rows: pd.DataFrame) -> "pd.Series[str]":
    """Return the finding of each row, in the words of its collection."""
    return rows["finding"].fillna("").replace("", "not stated")


def answer_shares(images: ScoredImages, bootstrap: Bootstrap, among: Array | None = None) -> tuple[Interval, ...]:
    """Return the shares, in percent, of the images in `among` (default: all) that are called each of `CLASSES`."""
    return tuple(bootstrap.rate(images.predicted == position, among) for position in range(len(CLASSES)))
