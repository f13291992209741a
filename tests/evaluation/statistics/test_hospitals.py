import numpy as np
import pandas as pd
import pytest

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.statistics.hospitals import p_reversed, ranked_pairs
from cxr_platform.evaluation.statistics.measures import paired_auc
from tests.evaluation.sections.test_hospitals import by_hospital, scored


def test_the_worst_of_many_pairs_that_are_ranked_by_chance_is_not_called_reversed():
    """Each interval by itself excludes 0.5 in 5 % of pairs: of many, one often does."""
    keys = [(f"origin {i}", label) for i in range(8) for label in ("Covid19", "Normal")]
    frame = scored("origin 0", dict.fromkeys(keys, 0.5))
    frame["p_Covid19"] = np.random.default_rng(0).random(len(frame))
    pairs = ranked_pairs(frame, seed=0).pairs

    assert len(pairs) == 15
    assert min(pair.auc.high for pair in pairs) < 0.5
    assert not any(pair.reversed for pair in pairs)


def test_one_of_many_pairs_that_is_ranked_the_wrong_way_round_is_found():
    pairs = {(p.positive, p.negative): p for p in ranked_pairs(by_hospital(), seed=0).pairs if p.left_out == "west"}

    assert pairs["west", "east"].reversed
    assert not pairs["east", "west"].reversed


def test_one_patient_with_many_images_is_too_few():
    frame = by_hospital()
    frame.loc[(frame["origin"] == "west") & (frame["label"] == "Covid19"), "group_id"] = "one patient"
    pair = next(p for p in ranked_pairs(frame, seed=0).pairs if p.positive == p.left_out == "west" != p.negative)

    assert (pair.images, pair.groups) == (25, 1)
    assert pair.small
    assert not pair.reversed


def test_scores_are_compared_within_a_classifier_only():
    """The second classifier gives all its images 0.5 more: pairs of images of both would be ranked by that."""
    keys = [("east", "Covid19"), ("east", "Normal"), ("west", "Covid19"), ("west", "Normal")]
    frames = []
    for part in (0, 1):
        frame = scored("west", dict(zip(keys, (0.3, 0.2, 0.3, 0.2), strict=True)))
        frame["p_Covid19"] += 0.5 * part
        seen = np.arange(len(frame)) % 2 == part
        frames.append(frame[seen | (frame["origin"] == "west")].assign(part=part))
    pairs = {(p.positive, p.negative): p for p in ranked_pairs(pd.concat(frames), seed=0).pairs}

    assert (pairs["west", "east"].images, pairs["west", "west"].images) == (25, 25)
    assert pairs["west", "east"].auc.value == pytest.approx(0.875, abs=0.03)
    assert pairs["west", "west"].auc.value == pytest.approx(0.875, abs=0.03)


def test_an_auc_without_an_interval_is_not_called_reversed():
    assert p_reversed(Interval(0.2, ratio=True)) == p_reversed(Interval(0.6, 0.5, 0.7, ratio=True)) == 1
    assert p_reversed(Interval(0.4, 0.3, 0.5, ratio=True)) == pytest.approx(0.05, abs=0.001)


def test_a_pair_has_the_area_that_it_has_by_itself_and_nearly_its_interval():
    frame = by_hospital()
    for pair in ranked_pairs(frame, seed=0).pairs:
        sides = (frame["origin"] == pair.positive) & (frame["label"] == "Covid19")
        sides |= (frame["origin"] == pair.negative) & (frame["label"] != "Covid19")
        rows = frame[sides & (frame["left_out"] == pair.left_out)]
        positive, part = (rows["label"] == "Covid19").to_numpy(), rows["part"].to_numpy()
        bootstrap = Bootstrap(rows["group_id"].to_numpy(object), seed=0)
        alone = paired_auc(rows["p_Covid19"].to_numpy(), positive, ~positive, part, bootstrap)
        assert pair.auc.value == pytest.approx(alone.value)
        assert (pair.auc.low, pair.auc.high) == pytest.approx((alone.low, alone.high), abs=0.04)


def test_the_mean_of_the_pairs_varies_with_the_patients_that_they_share():
    """Of twice the same images under other names, the mean varies as that of each: they are of the same patients."""
    frame = by_hospital()
    ranked = ranked_pairs(frame, seed=0)
    value, drawn = ranked.mean()
    assert value == pytest.approx(np.mean([pair.auc.value for pair in ranked.pairs]))
    assert drawn == pytest.approx(ranked.replicates.mean(axis=1))
    twice = pd.concat([frame, *(frame.assign(**{c: frame[c] + "'" for c in ("left_out", "origin", "image_id")}),)])
    assert ranked_pairs(twice, seed=0).mean()[1].std() == pytest.approx(drawn.std(), rel=0.02)


def test_a_replicate_without_a_pair_has_the_mean_of_the_others():
    frame = by_hospital()
    frame.loc[(frame["origin"] == "west") & (frame["label"] == "Covid19"), "group_id"] = "one patient"
    ranked = ranked_pairs(frame, seed=0)
    missing = np.isnan(ranked.replicates).any(axis=1)
    assert 0.3 < missing.mean() < 0.45  # a patient is not drawn in 1/e of the replicates
    value, drawn = ranked.mean()
    assert np.isfinite(drawn).all()
    assert drawn[missing] == pytest.approx(np.nanmean(ranked.replicates[missing], axis=1))
    assert ranked.mean([not pair.small for pair in ranked.pairs])[0] != value


def test_without_two_sides_there_is_no_pair():
    frame = by_hospital()
    assert ranked_pairs(frame[frame["label"] == "Normal"], seed=0) is None
