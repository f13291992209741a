import numpy as np
import pandas as pd
import pytest

from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.evaluation.statistics.within_sources import (
    NO_CLASS,
    RatedImages,
    rated_images,
    within_sources,
)
from cxr_platform.labels import CLASSES
from tests.evaluation.builders import probabilities
from tests.evaluation.planted import STRATEGY, predictions


def contrast_frame(source: list[str], answered: list[str], finding: str = "SARS") -> pd.DataFrame:
    """Contrast images as they are answered, in the form of the evidence part."""
    number = range(len(source))
    frame = pd.DataFrame({"image_id": [f"c{i}" for i in number], "group_id": [f"c{i}" for i in number]})
    frame = frame.assign(source=source, label=None, strategy=STRATEGY, fold=0, finding=finding)
    frame[list(PROBABILITY_COLUMNS)] = probabilities(np.array([CLASSES.index(label) for label in answered]))
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


def test_contrast_images_alone_are_enough_but_have_nothing_to_be_compared_with():
    source, label = ["covid"] * 40 + ["rest"] * 60, ["Covid19"] * 40 + ["Normal"] * 60
    rated = rated_images(predictions(source, label), STRATEGY, contrast_frame(["covid"] * 20, ["Covid19"] * 20))
    within = within_sources(rated, "Covid19", seed=0)

    assert within.others == within.contrast == 20
    assert within.auc.value == 0.5
    assert (within.compared, within.auc_elsewhere.value, within.specificity_elsewhere.value) == (0, None, None)
    assert not within.falls


def mixed(within: int, elsewhere: int) -> tuple[list[str], list[str], list[str]]:
    """Both sources have 100 others, so many of them Pneumonia, half of which are called Covid19; Normal never is."""
    label = ["Covid19"] * 60 + ["Pneumonia"] * within + ["Normal"] * (100 - within)
    label += ["Pneumonia"] * elsewhere + ["Normal"] * (100 - elsewhere)
    answered = [name if name != "Pneumonia" else ("Covid19", name)[n % 2] for n, name in enumerate(label)]
    return ["covid"] * 160 + ["rest"] * 100, label, answered


def test_another_mix_of_classes_elsewhere_is_no_fall():
    within = within_sources(rated_images(predictions(*mixed(80, 10)), STRATEGY, None), "Covid19", seed=0)

    assert within.specificity.value == within.specificity_elsewhere.value == 60
    assert within.auc_compared.value == pytest.approx(within.auc_elsewhere.value)
    assert within.auc_compared.value == within.auc.value
    assert not within.falls


def test_a_class_that_no_other_origin_has_takes_no_part_in_the_comparison():
    within = within_sources(rated_images(predictions(*mixed(80, 0)), STRATEGY, None), "Covid19", seed=0)

    assert (within.others, within.compared) == (100, 20)
    assert within.specificity.value == 60
    assert within.specificity_compared.value == within.specificity_elsewhere.value == 100
    assert not within.falls


def test_a_lower_auc_is_a_fall_also_if_the_classes_are_ranked_perfectly_elsewhere():
    source, label = ["covid"] * 120 + ["rest"] * 60, ["Covid19"] * 60 + ["Normal"] * 120
    rated = rated_images(predictions(source, label), STRATEGY, None)
    covid, normal = CLASSES.index("Covid19"), CLASSES.index("Normal")
    rated.probability[:] = 0
    rated.probability[:60, covid] = np.linspace(0.2, 0.4, 60)
    rated.probability[60:120, covid] = np.linspace(0.19, 0.39, 60)
    rated.probability[:, normal] = 1 - rated.probability[:, covid]  # nothing is called Covid19
    within = within_sources(rated, "Covid19", seed=0)

    assert within.auc.value == pytest.approx(0.545, abs=0.01)
    assert within.auc_elsewhere.value == 1
    assert within.auc_elsewhere.low == pytest.approx(0.025 ** (1 / 60))
    assert within.falls


def test_a_source_of_the_same_origin_is_not_elsewhere():
    source, label, answered = by_source()
    drawn = predictions([*source, *["other"] * 20], [*label, *["Normal"] * 20], [*answered, *["Covid19"] * 20])
    apart, together = (rated_images(drawn, STRATEGY, None, origins) for origins in ({}, {"other": "covid"}))

    assert within_sources(apart, "Covid19", seed=0).specificity_elsewhere.value == 75
    assert within_sources(together, "Covid19", seed=0).specificity_elsewhere.value == 100


def test_images_of_few_patients_are_few():
    rated = rated_images(predictions(*by_source()), STRATEGY, None)
    assert not within_sources(rated, "Covid19", seed=0).small
    rated.group[40:60] = "one patient"
    assert within_sources(rated, "Covid19", seed=0).small


def test_without_such_a_source_there_is_nothing_to_compare():
    rated = rated_images(predictions(["a", "b"] * 10, ["Covid19", "Normal"] * 10), STRATEGY, None)

    assert within_sources(rated, "Covid19", seed=0) is None
    assert within_sources(rated, "Edema", seed=0) is None


def test_a_class_that_is_hard_everywhere_does_not_fall():
    """Pneumonia is hard in both sources; that the first has no Normal must not count against it."""
    source = ["covid"] * 60 + ["rest"] * 100
    label = ["Covid19"] * 40 + ["Pneumonia"] * 40 + ["Normal"] * 80
    answered = ["Covid19"] * 50 + ["Pneumonia"] * 10 + ["Covid19"] * 10 + ["Pneumonia"] * 10 + ["Normal"] * 80
    within = within_sources(rated_images(predictions(source, label, answered), STRATEGY, None), "Covid19", seed=0)

    assert within.specificity.value == within.specificity_elsewhere.value == 50
    assert within.auc.value == within.auc_elsewhere.value
    assert not within.falls


def test_each_source_is_judged_without_the_other_sources_of_the_class():
    source = ["a"] * 20 + ["b"] * 20 + ["rest"] * 40
    label = (["Covid19"] * 10 + ["Normal"] * 10) * 2 + ["Normal"] * 40
    answered = ["Covid19"] * 20 + ["Covid19"] * 10 + ["Normal"] * 10 + ["Normal"] * 40
    rated = rated_images(predictions(source, label, answered), STRATEGY, None)
    together = within_sources(rated, "Covid19", seed=0)

    assert within_sources(rated, "Covid19", seed=0, sources=["a"]).auc.value == 0.5
    assert within_sources(rated, "Covid19", seed=0, sources=["b"]).auc.value == 1
    assert together.auc.value == 0.75


def test_a_study_without_contrast_images_has_its_own_images_only():
    rated = rated_images(predictions(["a"], ["Edema"]), STRATEGY, contrast_frame(["a"], ["Normal"]))

    assert isinstance(rated, RatedImages)
    assert rated.label.tolist() == [CLASSES.index("Edema"), NO_CLASS]
    assert len(rated_images(predictions(["a"], ["Edema"]), STRATEGY, None).label) == 1
