import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.within_sources import (
    NO_CLASS,
    RatedImages,
    paired_auc,
    rated_images,
    single_sources,
    within_sources,
)
from cxr_platform.labels import CLASSES
from tests.evaluation.builders import probabilities
from tests.evaluation.planted import STRATEGY, predictions


def contrast_frame(source: list[str], said: list[str], finding: str = "SARS") -> pd.DataFrame:
    """Contrast images as they are answered, in the form of the evidence part."""
    number = range(len(source))
    frame = pd.DataFrame({"image_id": [f"c{i}" for i in number], "group_id": [f"c{i}" for i in number]})
    frame = frame.assign(source=source, label=None, strategy=STRATEGY, fold=0, finding=finding)
    frame[list(PROBABILITY_COLUMNS)] = probabilities(np.array([CLASSES.index(label) for label in said]))
    return frame


def by_source() -> tuple[list[str], list[str], list[str]]:
    """A network that calls every image of the source that has Covid19 Covid19: the class falls within it."""
    source = ["covid"] * 60 + ["rest"] * 60
    label = ["Covid19"] * 40 + ["Normal"] * 80
    return source, label, ["Covid19"] * 60 + ["Normal"] * 60


def test_a_network_that_goes_by_the_source_falls_within_it():
    within = within_sources(rated_images(predictions(*by_source()), STRATEGY, None), "Covid19", seed=0)

    assert (within.sources, within.images, within.others, within.contrast) == (("covid",), 40, 20, 0)
    assert (within.auc.value, within.specificity.value) == (0.5, 0)
    assert (within.auc_elsewhere.value, within.specificity_elsewhere.value) == (1, 100)
    assert within.falls
    assert not within.shown


def test_a_network_that_goes_by_the_disease_stands_out_within_the_source():
    source, label, _ = by_source()
    within = within_sources(rated_images(predictions(source, label), STRATEGY, None), "Covid19", seed=0)

    assert within.auc.value == 1
    assert within.shown
    assert not within.falls


def test_contrast_images_are_other_images_of_their_source():
    contrast = contrast_frame(["covid"] * 30 + ["rest"] * 5, ["Covid19"] * 15 + ["Normal"] * 20)
    source, label, _ = by_source()
    within = within_sources(rated_images(predictions(source, label), STRATEGY, contrast), "Covid19", seed=0)

    assert (within.others, within.contrast) == (50, 30)
    assert within.specificity.value == pytest.approx(100 * 35 / 50)
    assert within.auc.value == pytest.approx((35 + 15 / 2) / 50)


def test_contrast_images_alone_are_enough_and_stand_beside_all_classes_of_other_sources():
    source, label = ["covid"] * 40 + ["rest"] * 60, ["Covid19"] * 40 + ["Normal"] * 60
    rated = rated_images(predictions(source, label), STRATEGY, contrast_frame(["covid"] * 20, ["Covid19"] * 20))
    within = within_sources(rated, "Covid19", seed=0)

    assert within.others == within.contrast == 20
    assert within.auc_elsewhere.value == 1
    assert within.falls


def test_without_such_a_source_there_is_nothing_to_compare():
    rated = rated_images(predictions(["a", "b"] * 10, ["Covid19", "Normal"] * 10), STRATEGY, None)

    assert within_sources(rated, "Covid19", seed=0) is None
    assert within_sources(rated, "Edema", seed=0) is None


def test_a_class_that_is_hard_everywhere_does_not_fall():
    """Pneumonia is hard in both sources; that the first has no Normal must not count against it."""
    source = ["covid"] * 60 + ["rest"] * 100
    label = ["Covid19"] * 40 + ["Pneumonia"] * 40 + ["Normal"] * 80
    said = ["Covid19"] * 50 + ["Pneumonia"] * 10 + ["Covid19"] * 10 + ["Pneumonia"] * 10 + ["Normal"] * 80
    within = within_sources(rated_images(predictions(source, label, said), STRATEGY, None), "Covid19", seed=0)

    assert within.specificity.value == within.specificity_elsewhere.value == 50
    assert within.auc.value == within.auc_elsewhere.value
    assert not within.falls


def test_pairs_of_different_sources_do_not_count():
    random = np.random.default_rng(0)
    positive, stratum = random.random(300) < 0.4, np.array(["a", "b"])[random.integers(0, 2, 300)]
    scores = np.round(random.random(300) + 0.3 * positive + 5 * (stratum == "b"), 1)
    area = paired_auc(scores, positive, ~positive, stratum, Bootstrap(np.arange(300)))

    parts = {s: (stratum == s, (positive & (stratum == s)).sum() * (~positive & (stratum == s)).sum()) for s in "ab"}
    expected = sum(roc_auc_score(positive[rows], scores[rows]) * pairs for rows, pairs in parts.values())
    assert area.value == pytest.approx(expected / sum(pairs for _, pairs in parts.values()))
    assert area.low < area.value < area.high


def test_each_source_is_judged_without_the_other_sources_of_the_class():
    source = ["a"] * 20 + ["b"] * 20 + ["rest"] * 40
    label = (["Covid19"] * 10 + ["Normal"] * 10) * 2 + ["Normal"] * 40
    said = ["Covid19"] * 20 + ["Covid19"] * 10 + ["Normal"] * 10 + ["Normal"] * 40
    rated = rated_images(predictions(source, label, said), STRATEGY, None)
    together = within_sources(rated, "Covid19", seed=0)

    alone = {part.sources: part for part in single_sources(rated, together, seed=0)}
    assert alone["a",].auc.value == 0.5
    assert alone["b",].auc.value == 1
    assert together.auc.value == 0.75


def test_a_study_without_contrast_images_has_its_own_images_only():
    rated = rated_images(predictions(["a"], ["Edema"]), STRATEGY, contrast_frame(["a"], ["Normal"]))

    assert isinstance(rated, RatedImages)
    assert rated.label.tolist() == [CLASSES.index("Edema"), NO_CLASS]
    assert len(rated_images(predictions(["a"], ["Edema"]), STRATEGY, None).label) == 1
