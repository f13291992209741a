import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from cxr_platform.evaluation.statistics.reader_labels import NONE_OF_THEM, ReaderLabels, kappa
from tests.evaluation.planted import STRATEGY, predictions


def labelled(label: list[str], reader: list[str | None], predicted: list[str] | None = None, **more: list[str]):
    """The labels of one source; a reader's `""` is a finding that is none of the classes, `None` is not labelled."""
    made = predictions(more.get("source", ["nih"] * len(label)), label, predicted)
    facts = pd.DataFrame(
        {
            "reader_label": [name or None for name in reader],
            "reader_finding": [None if name is None else name or "abnormal" for name in reader],
        },
        index=made.image_id,
    )
    return ReaderLabels(made, facts.sample(frac=1, random_state=1), seed=1)


def test_kappa_is_that_of_scikit_learn_with_any_weights() -> None:
    rng = np.random.default_rng(3)
    label, reader, weights = rng.integers(0, 3, 60), rng.integers(0, 4, 60), rng.integers(0, 4, (5, 60))
    expected = [cohen_kappa_score(label, reader, sample_weight=row) for row in weights]
    assert kappa(label, reader, weights.astype(float)) == pytest.approx(expected)
    assert np.isnan(kappa(np.zeros(4), np.zeros(4), np.ones((1, 4)))[0])


def test_labels_that_readers_do_not_distinguish_are_not_compared() -> None:
    label = ["Pneumonia"] * 4 + ["Normal"] * 4 + ["Edema"] * 2
    reader = ["Pneumonia", "Normal", "", None, "Normal", "Normal", "Normal", "Pneumonia", "Pneumonia", ""]
    labels = labelled(label, reader)
    assert labels.compared.tolist() == [True] * 3 + [False] + [True] * 4 + [False] * 2
    agreement = labels.agreement()
    assert agreement.images == 7
    assert agreement.agreement.value == pytest.approx(100 * 4 / 7)
    assert [(n.label, n.images, n.rate.value) for n in agreement.noise] == [
        ("Pneumonia", 3, pytest.approx(200 / 3)),
        ("Normal", 4, 25.0),
    ]
    assert agreement.counts["Pneumonia", NONE_OF_THEM] == 1
    assert sum(agreement.counts.values()) == 7


def test_an_image_on_which_readers_disagree_is_no_noise() -> None:
    label = ["Pneumonia"] * 4 + ["Normal"] * 4
    decided = labelled(label, ["Pneumonia"] * 3 + [None] + ["Normal"] * 4)
    tie = labelled(label, ["Pneumonia"] * 3 + ["undecided"] + ["Normal"] * 4)

    assert tie.undecided.sum() == 1
    assert tie.agreement() == decided.agreement()
    assert list(tie.rates(STRATEGY)) == list(decided.rates(STRATEGY))


def test_the_interval_of_kappa_covers_the_value_of_the_population() -> None:
    rng, truth = np.random.default_rng(1), []
    for seed in range(40):
        label = rng.integers(0, 2, 120)
        reader = np.where(rng.random(120) < 0.8, label, 1 - label)  # kappa 0.6
        names = np.array(["Pneumonia", "Normal"])
        interval = labelled(names[label].tolist(), names[reader].tolist()).agreement().kappa
        truth.append(interval.low < 0.6 < interval.high)
        assert interval.ratio, seed
    assert sum(truth) >= 34


def test_rates_are_under_both_labels() -> None:
    label = ["Pneumonia", "Pneumonia", "Pneumonia", "Normal", "Edema"]
    reader = ["Pneumonia", "Normal", "", "Normal", None]
    predicted = ["Pneumonia", "Normal", "Pneumonia", "Normal", "Edema"]
    rates = {pair.name: pair for pair in labelled(label, reader, predicted).rates(STRATEGY)}
    pneumonia = rates["recall of Pneumonia, images with both labels"]
    assert (pneumonia.images, pneumonia.collection.value, pneumonia.readers.value) == (
        (3, 1),
        pytest.approx(200 / 3),
        100,
    )
    normal = rates["recall of Normal, images with both labels"]
    assert (normal.images, normal.collection.value, normal.readers.value) == ((1, 2), 100, 100)
    both = rates["7-class accuracy, images with both labels"]
    assert (both.images, both.collection.value, both.readers.value) == ((4, 3), 75, 100)
    everything = rates["7-class accuracy, all images"]
    assert (everything.images, everything.collection.value, everything.readers.value) == ((5, 4), 80, 100)


def test_sources_are_judged_by_the_classes_of_their_own_readers() -> None:
    label, source = ["Normal", "Normal", "Effusion", "Effusion"], ["a", "a", "b", "b"]
    labels = labelled(label, ["Normal", "", "Effusion", "Normal"], source=source)
    assert labels.sources == ["a", "b"]
    assert [labels.agreement(name).images for name in labels.sources] == [2, 2]
    assert [n.rate.value for n in labels.agreement("b").noise] == [50]
