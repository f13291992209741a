from dataclasses import replace

import pytest

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.credibility import (
    NOT_CONTRADICTED,
    NOT_SUPPORTED,
    NOT_TESTED,
    PARTLY_SUPPORTED,
    assess_credibility,
    contradictions,
)
from cxr_platform.evaluation.findings import (
    FEW_TRAINING_IMAGES,
    Association,
    ExternalFinding,
    HospitalPair,
    LeakageFinding,
    UnseenImages,
)
from tests.evaluation.made_findings import (
    CONTRADICTION,
    LUNGS_SEEN,
    OUTSIDE,
    SINGLE,
    WITHIN,
    findings,
    probe,
    source_probe,
)


def pair(auc: float, p: float = 1.0, images: int = 40) -> HospitalPair:
    interval = Interval(auc, auc - 0.1, auc + 0.1, ratio=True)
    return HospitalPair(
        positive="west", negative="east", left_out="west", images=images, others=300, groups=images, auc=interval,
        p_reversed=p,
    )  # fmt: skip


LARGE_PAIR = pair(0.8)


def sentence(results, **changes) -> str:
    credibility = assess_credibility(results, findings(**changes))
    return f"{credibility.verdict}: {credibility.explanation}".replace("\N{NO-BREAK SPACE}", " ")


def test_without_reasons_against_them_the_results_are_not_contradicted(all_strategies):
    harmless = (probe(accuracy=90.0), probe("without-outline", 85.0), probe("without-lungs"))
    credibility = assess_credibility(all_strategies, findings(lungs=LUNGS_SEEN, probes=harmless))

    assert credibility.verdict == NOT_CONTRADICTED
    assert not credibility.alarm
    assert credibility.reasons == ()
    assert "“without lungs”, reaches 80.00\N{NO-BREAK SPACE}% (78.00 to 82.00)" in credibility.explanation
    assert "61.00\N{NO-BREAK SPACE}% (57.00 to 65.00) of the heatmaps lies in the lungs" in credibility.explanation


def test_without_probes_and_external_images_the_results_are_not_tested(all_strategies):
    credibility = assess_credibility(all_strategies, findings(probes=()))

    assert credibility.verdict == NOT_TESTED
    assert "neither shortcut probes nor external images" in credibility.explanation


@pytest.mark.parametrize("tested", [{"within": replace(WITHIN, falls=False)}, {"hospitals": (LARGE_PAIR,)}])
def test_the_images_of_its_own_sources_and_pairs_of_origins_are_tests_too(all_strategies, tested):
    assert assess_credibility(all_strategies, findings(probes=(), **tested)).verdict == NOT_CONTRADICTED


def test_pairs_of_origins_that_are_ranked_well_are_named_among_what_was_tested(all_strategies):
    assert "the worst pair of origins is Covid19 of west against" in sentence(all_strategies, hospitals=(LARGE_PAIR,))


def test_contradicting_external_images_come_first_with_all_rates(all_strategies):
    text = sentence(all_strategies, external=(CONTRADICTION,), association=SINGLE, probes=(probe(shortcut=True),))

    assert text.startswith(
        "Not supported: 14 of the 18 images of actualmed without Covid19 are called Covid19: specificity 22.22 % "
        "(5.56 to 44.44), in cross-validation 98.50 % (97.40 to 99.20); without the lungs"
    )


def test_a_class_that_falls_within_its_sources_is_severe_and_leads_the_answer(all_strategies):
    assert sentence(all_strategies, within=WITHIN, external=(CONTRADICTION,)).startswith(
        "Not supported: among the 35 other images of the sources that have Covid19 (actualmed and cohen), the AUC of "
        "Covid19 is 0.612 (0.510 to 0.700) and its specificity 40.00 % (24.30 to 57.60), 0.634 (0.520 to 0.710) "
        "and 41.20 % (24.90 to 58.10) among the 17 of classes that other origins have too, and 0.985 (0.970 to 0.990) "
        "and 98.50 % (97.90 to 99.00) against images of the same classes from other origins; 14 of the 18"
    )


def test_a_class_that_may_not_stand_out_within_its_sources_is_a_doubt(all_strategies):
    by_chance = replace(WITHIN, falls=False, auc=Interval(0.612, 0.45, 0.99, ratio=True))

    assert sentence(all_strategies, within=by_chance).startswith("Partly supported: among the 35 other images")


def test_the_figures_within_the_sources_come_first_also_if_other_tests_fail(all_strategies):
    text = sentence(all_strategies, within=replace(WITHIN, falls=False), external=(CONTRADICTION,))

    assert text.startswith(
        "Not supported: although among the 35 other images of the sources that have Covid19 (actualmed and cohen), the "
        "AUC of Covid19 is 0.612 (0.510 to 0.700) and its specificity 40.00 % (24.30 to 57.60), 14 of the 18 images of"
    )


def test_a_class_that_stands_out_within_its_sources_leads_what_was_tested(all_strategies):
    text = sentence(all_strategies, within=replace(WITHIN, falls=False))

    assert text.startswith("Not contradicted, which is not proof: among the 35 other images of the sources that have")


def test_a_pair_of_hospitals_ranked_the_wrong_way_round_is_severe_also_if_another_is_lower(all_strategies):
    pairs = (pair(0.9), pair(0.15, 0.2), pair(0.2, 0.01))

    assert sentence(all_strategies, hospitals=pairs) == (
        "Not supported: with one origin left out, a simple model does not rank the images of each pair of origins; "
        "worst is Covid19 of west against other images of east, trained without west: AUC 0.200 (0.100 to 0.300)."
    )


def test_a_pair_of_hospitals_that_is_ranked_by_chance_is_a_doubt(all_strategies):
    assert sentence(all_strategies, hospitals=(pair(0.5),)).startswith("Partly supported: with one origin left out")
    assert sentence(all_strategies, hospitals=(pair(0.1, 0.001, images=5),)).startswith("Partly supported")
    assert sentence(all_strategies, hospitals=(pair(0.55),)).startswith("Not contradicted")


def test_a_contradicting_left_out_source_is_severe_unless_few_training_images_were_left(all_strategies):
    fell = ExternalFinding(
        "kermany",
        "recall",
        "Normal",
        "whole-image",
        1335,
        1197,
        Interval(93.3),
        Interval(10.3),
        True,
        training_images=500,
    )

    severe, doubt = (
        assess_credibility(all_strategies, findings(left_out=(replace(fell, training_images=n),)))
        for n in (FEW_TRAINING_IMAGES, 27)
    )

    assert (severe.verdict, doubt.verdict) == (NOT_SUPPORTED, PARTLY_SUPPORTED)
    assert "its 1,335 Normal images, and" in severe.explanation
    assert "its 1,335 Normal images (only 27 training images from other sources), and" in doubt.explanation


def test_a_winner_no_better_than_the_most_frequent_class_comes_first(all_strategies):
    chance = all_strategies.majority_accuracy
    text = sentence(all_strategies, accuracy=Interval(chance + 1, chance - 1, chance + 3), external=(CONTRADICTION,))

    assert text.startswith(
        "Not supported: the winner is not significantly better than always predicting the most frequent class"
    )


def test_sensitivity_and_recall_have_their_own_clauses(all_strategies):
    missed = replace(CONTRADICTION, measure="sensitivity", images=26, wrong=20)
    taken = replace(CONTRADICTION, measure="recall", images=18, wrong=12)

    assert "20 of the 26 Covid19 images of actualmed are missed" in sentence(all_strategies, external=(missed,))
    assert "12 of the 18 Normal images of actualmed are given another class" in sentence(
        all_strategies, external=(taken,)
    )


def test_covid19_against_the_rest_comes_before_a_larger_gap_in_recall(all_strategies):
    recall = replace(CONTRADICTION, measure="recall", wrong=17, external=Interval(5.56, 0.0, 18.18))

    assert [f.measure for f in contradictions((recall, CONTRADICTION), "scratch")] == ["specificity"]
    assert [f.measure for f in contradictions((recall,), "scratch")] == ["recall"]


def test_every_contradicting_source_is_named(all_strategies):
    sources = [replace(CONTRADICTION, source=s, external=Interval(v, v - 5, v + 5)) for s, v in (
        ("first", 20.0), ("second", 30.0), ("third", 40.0), ("fourth", 50.0)
    )]  # fmt: skip

    text = sentence(all_strategies, external=tuple(sources[::-1]))

    assert text.index("of first") < text.index("of second")
    assert "results on third and fourth contradict cross-validation too" in text


def test_contradictions_keep_the_largest_gap_per_source_in_descending_order(all_strategies):
    wide, middle, narrow = (
        replace(CONTRADICTION, source=s, external=Interval(v, v - 5, v + 5))
        for s, v in (("first", 20.0), ("second", 30.0), ("first", 60.0))
    )

    assert contradictions([narrow, middle, wide], "scratch") == [wide, middle]


def test_a_source_is_named_once_with_the_largest_gap_of_the_winner(all_strategies):
    narrow = replace(CONTRADICTION, measure="recall", external=Interval(80.0, 70.0, 90.0))
    of_another = replace(CONTRADICTION, strategy="off-the-shelf", external=Interval(1.0, 0.0, 3.0))

    assert contradictions([narrow, of_another, CONTRADICTION], "scratch") == [CONTRADICTION]


def test_contradictions_of_other_strategies_are_used_if_the_winner_has_none(all_strategies):
    of_another = replace(CONTRADICTION, strategy="off-the-shelf")

    assert contradictions([of_another], "scratch") == [of_another]


def test_a_contradiction_of_another_strategy_is_a_doubt_that_names_it(all_strategies):
    of_another = replace(CONTRADICTION, strategy="off-the-shelf")

    assert sentence(all_strategies, external=(of_another,)).startswith(
        "Partly supported: for off-the-shelf features, not the winner, 14 of the 18 images of actualmed without Covid19"
    )


def test_severe_reasons_come_before_doubts(all_strategies):
    of_another = replace(CONTRADICTION, strategy="off-the-shelf")

    text = sentence(all_strategies, external=(of_another,), probes=(probe("metadata", 74.0, shortcut=True),))

    assert text.startswith("Not supported: without the lungs")
    assert "; for off-the-shelf features, not the winner, 14 of the 18" in text


def test_external_images_without_a_counterpart_are_not_mentioned(all_strategies):
    alone = replace(CONTRADICTION, internal=Interval(None), contradicts=False)

    text = sentence(all_strategies, external=(alone,), left_out=(alone,))

    assert "actualmed" not in text
    assert "left out of training" not in text


def test_left_out_sources_without_a_contradiction_are_not_called_equal(all_strategies):
    level = replace(CONTRADICTION, external=Interval(97.0, 94.0, 100.0), contradicts=False)

    assert "no source left out of training is recognised significantly worse" in sentence(
        all_strategies, left_out=(level,)
    )


def test_another_disease_called_covid19_is_a_severe_reason(all_strategies):
    text = sentence(all_strategies, outside=(OUTSIDE,))
    assert text == (
        "Not supported: 108 of the 200 images of shenzhen (tuberculosis, none of the seven classes) are called "
        "Covid19: 54.00 % (47.00 to 61.00), in cross-validation 2.10 % (1.50 to 2.80) of the images without Covid19."
    )
    assert assess_credibility(all_strategies, findings(outside=(OUTSIDE,))).verdict == NOT_SUPPORTED


def test_of_several_outside_sources_the_worst_is_described_and_the_others_are_named(all_strategies):
    other = replace(OUTSIDE, source="montgomery", shares=(Interval(20.0, 10.0, 30.0), *OUTSIDE.shares[1:]))
    text = sentence(all_strategies, outside=(other, OUTSIDE))
    assert text.startswith("Not supported: 108 of the 200 images of shenzhen")
    assert text.endswith(", and images of montgomery too often too.")


def test_outside_images_of_few_patients_are_a_doubt_and_of_another_strategy_nothing(all_strategies):
    few = replace(OUTSIDE, groups=12)
    assert assess_credibility(all_strategies, findings(outside=(few,))).verdict == PARTLY_SUPPORTED
    part, of_another = replace(OUTSIDE, whole=False), replace(OUTSIDE, strategy="off-the-shelf")
    assert assess_credibility(all_strategies, findings(outside=(part, of_another))).verdict == NOT_CONTRADICTED


def test_outside_images_that_are_not_called_covid19_are_named_among_the_tests(all_strategies):
    text = sentence(all_strategies, outside=(replace(OUTSIDE, higher=False),))
    assert "images of shenzhen, of none of the classes, are not called Covid19 more often than others" in text


def test_agreeing_external_images_are_no_reason(all_strategies):
    agreeing = replace(CONTRADICTION, external=Interval(97.0, 94.0, 100.0), contradicts=False)

    assert assess_credibility(all_strategies, findings(external=(agreeing,))).verdict == NOT_CONTRADICTED


def test_a_shortcut_probe_means_not_supported(all_strategies):
    text = sentence(all_strategies, probes=(probe(), probe("metadata", 74.0, shortcut=True)))

    assert text == (
        "Not supported: without the lungs, 7-class accuracy is 74.00 % (72.00 to 76.00) for “metadata” (the winner: "
        "88.00 %), with 34.00 % by chance."
    )


def test_single_sources_and_a_predictable_source_are_two_doubts(all_strategies):
    credibility = assess_credibility(all_strategies, findings(association=SINGLE, source_probes=(source_probe(95.0),)))

    assert credibility.verdict == PARTLY_SUPPORTED
    assert credibility.alarm
    assert "3 of 7 classes come from a single source (Cramér's V 0.87" in credibility.explanation
    assert "the source is predicted from whole images for 95.00" in credibility.explanation


def test_a_source_that_is_hardly_predictable_is_no_reason(all_strategies):
    assert "predicted from whole images" not in sentence(
        all_strategies, association=SINGLE, source_probes=(source_probe(60.0),)
    )


def test_a_predictable_source_without_association_is_no_reason(all_strategies):
    assert assess_credibility(all_strategies, findings(source_probes=(source_probe(99.0),))).verdict == NOT_CONTRADICTED


def test_class_and_source_may_be_associated_without_a_single_source(all_strategies):
    assert "class and source are associated (Cramér's V 0.55" in sentence(
        all_strategies, association=Association(0.55, {}, 3)
    )


def test_one_source_is_a_doubt_unless_external_images_agree(all_strategies):
    alone = Association(None, {}, 1)
    agreeing = replace(CONTRADICTION, contradicts=False)

    assert "all images come from one source" in sentence(all_strategies, association=alone)
    assert (
        assess_credibility(all_strategies, findings(association=alone, external=(agreeing,))).verdict
        == NOT_CONTRADICTED
    )


def test_heatmaps_outside_the_lungs_are_a_doubt(all_strategies):
    outside = replace(LUNGS_SEEN, share=Interval(21.0, 18.0, 24.0), low=True)

    assert sentence(all_strategies, lungs=outside) == (
        "Partly supported: only 21.00 % (18.00 to 24.00) of the heatmaps lies in the lungs, which "
        "cover 30.00 % of "
        "the image (weak evidence by itself)."
    )


def test_an_unrecognised_left_out_source_means_not_supported(all_strategies):
    missed = replace(CONTRADICTION, source="cohen", measure="recall", label="Covid19", images=40)

    text = sentence(all_strategies, left_out=(missed, replace(missed, label="Normal")))

    assert text.startswith(
        "Not supported: a simple model trained without cohen recognises 22.22 % of its 40 Covid19 images"
    )
    assert "and likewise for 1 other pair of class and source" in text


def test_the_paper_protocol_is_a_doubt_with_its_leakage_if_known(as_printed):
    leaking = LeakageFinding("scratch", Interval(3.2, 1.1, 5.0, signed=True))
    harmless = LeakageFinding("scratch", Interval(0.2, -1.1, 1.5, signed=True))

    assert "may be in several folds, which makes the results too high." in sentence(as_printed)
    assert "too high; they are 3.20 points above those of grouped folds." in sentence(as_printed, leakage=leaking)
    assert assess_credibility(as_printed, findings(leakage=harmless)).verdict == NOT_CONTRADICTED


def test_leakage_under_the_other_protocol_is_no_reason_against_grouped_folds(all_strategies):
    leaking = LeakageFinding("scratch", Interval(3.2, 1.1, 5.0, signed=True))

    assert assess_credibility(all_strategies, findings(leakage=leaking)).verdict == NOT_CONTRADICTED


def test_all_shortcut_probes_are_in_one_reason(all_strategies):
    both = (probe("metadata", 74.0, shortcut=True), probe("without-lungs", 79.0, shortcut=True))

    assert sentence(all_strategies, probes=both) == (
        "Not supported: without the lungs, 7-class accuracy is 79.00 % (77.00 to 81.00) for “without lungs” (the same "
        "recipe on whole images: 88.00 %) and 74.00 % (72.00 to 76.00) for “metadata” (the winner: 88.00 %), "
        "with 34.00 % "
        "by chance."
    )


def test_reasons_without_room_in_the_explanation_are_kept(all_strategies):
    credibility = assess_credibility(
        all_strategies,
        findings(
            external=(CONTRADICTION,),
            probes=(probe("metadata", 74.0, shortcut=True),),
            association=SINGLE,
            source_probes=(source_probe(95.0),),
        ),
    )

    assert [clause[:16] for clause in credibility.explanation.split("; ")[:3]] == [
        "14 of the 18 ima", "without the lung", "3 of 7 classes c"
    ]  # fmt: skip
    assert [reason.text[:20] for reason in credibility.further] == ["the source is predic"]


@pytest.mark.parametrize(
    ("high", "verdict"), [(-60.0, NOT_SUPPORTED), (-9.0, PARTLY_SUPPORTED), (0.5, NOT_CONTRADICTED)]
)
def test_an_accuracy_that_falls_far_at_unseen_hospitals_leaves_the_claim_without_support(all_strategies, high, verdict):
    change = Interval(high - 2, high - 4, high, signed=True)
    unseen = UnseenImages(3579, Interval(18.94, 17.36, 20.63), change, Interval(0.806, 0.792, 0.819, ratio=True))
    shown = sentence(all_strategies, unseen=unseen, probes=())
    assert shown.startswith(f"{verdict}: ")
    told = (
        "trained without each hospital in turn, the winner gives 18.94 % (17.36 to 20.63) of 3,579 images of these, of "
        f"classes that other hospitals have too, their class, {abs(high - 2):.2f} points less than when trained with "
        "them, and ranks Covid19 of pairs of hospitals with a mean AUC of 0.806 (0.792 to 0.819)"
    )
    assert (told in shown) == unseen.falls


def test_hospitals_without_a_common_class_are_no_test(all_strategies):
    undefined = Interval(None, signed=True)
    unseen = UnseenImages(0, Interval(None), undefined, Interval(None, ratio=True))
    assert sentence(all_strategies, unseen=unseen, probes=()).startswith(f"{NOT_TESTED}: ")
