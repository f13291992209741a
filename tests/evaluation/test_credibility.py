from dataclasses import replace

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
    LeakageFinding,
    WithinSources,
)
from tests.evaluation.found import CONTRADICTION, LUNGS_SEEN, SINGLE, findings, probe, told_source


def sentence(results, **changes) -> str:
    judged = assess_credibility(results, findings(**changes))
    return f"{judged.verdict}: {judged.because}".replace("\N{NO-BREAK SPACE}", " ")


def test_where_nothing_speaks_against_it_that_is_no_proof(all_strategies):
    harmless = (probe(accuracy=90.0), probe("without-lungs"))
    judged = assess_credibility(all_strategies, findings(lungs=LUNGS_SEEN, probes=harmless))

    assert judged.verdict == NOT_CONTRADICTED
    assert not judged.alarm
    assert judged.reasons == ()
    assert "“without lungs”, reaches 80.00\N{NO-BREAK SPACE}% (78.00 to 82.00)" in judged.because
    assert "61.00\N{NO-BREAK SPACE}% (57.00 to 65.00) of the heatmaps lies in the lung field" in judged.because


def test_where_nothing_was_computed_nothing_is_known(all_strategies):
    judged = assess_credibility(all_strategies, findings(probes=()))

    assert judged.verdict == NOT_TESTED
    assert "neither probes for shortcuts nor images from elsewhere" in judged.because


def test_external_images_that_contradict_come_first_with_all_figures(all_strategies):
    said = sentence(all_strategies, external=(CONTRADICTION,), association=SINGLE, probes=(probe(shortcut=True),))

    assert said.startswith(
        "No: 14 of the 18 images of actualmed without Covid19 are called Covid19: specificity 22.22 % (5.56 to 44.44), "
        "where cross-validation has 98.50 % (97.40 to 99.20); without the lungs"
    )


def test_specificity_that_falls_within_sources_that_have_both_is_severe(all_strategies):
    within = WithinSources(35, Interval(40.0, 24.3, 57.6), Interval(98.5, 97.9, 99.0), falls=True)

    assert sentence(all_strategies, within=within).startswith(
        "No: on the 35 other images of sources that have Covid19 too, specificity is 40.00 % (24.30 to 57.60), "
        "where images of the same classes from other sources have 98.50 %"
    )
    assert "of sources that have Covid19 too" not in sentence(all_strategies, within=replace(within, falls=False))


def test_a_source_left_out_speaks_against_it_unless_next_to_nothing_was_left_to_learn_from(all_strategies):
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
    assert "its 1,335 Normal images, and" in severe.because
    assert "its 1,335 Normal images (only 27 from elsewhere to learn from), and" in doubt.because


def test_a_winner_no_better_than_the_most_frequent_class_is_said_first(all_strategies):
    chance = all_strategies.majority_accuracy
    said = sentence(all_strategies, accuracy=Interval(chance + 1, chance - 1, chance + 3), external=(CONTRADICTION,))

    assert said.startswith("No: the winner is not clearly better than always naming the most frequent class")


def test_other_measures_are_worded_as_what_happened(all_strategies):
    missed = replace(CONTRADICTION, measure="sensitivity", images=26, wrong=20)
    taken = replace(CONTRADICTION, measure="recall", images=18, wrong=12)

    assert "20 of the 26 Covid19 images of actualmed are missed" in sentence(all_strategies, external=(missed,))
    assert "12 of the 18 Normal images of actualmed are taken for another class" in sentence(
        all_strategies, external=(taken,)
    )


def test_covid19_against_the_rest_comes_before_a_recall_that_falls_further(all_strategies):
    recall = replace(CONTRADICTION, measure="recall", wrong=17, external=Interval(5.56, 0.0, 18.18))

    assert [f.measure for f in contradictions((recall, CONTRADICTION), "scratch")] == ["specificity"]
    assert [f.measure for f in contradictions((recall,), "scratch")] == ["recall"]


def test_every_contradicting_source_is_named(all_strategies):
    sources = [replace(CONTRADICTION, source=s, external=Interval(v, v - 5, v + 5)) for s, v in (
        ("first", 20.0), ("second", 30.0), ("third", 40.0), ("fourth", 50.0)
    )]  # fmt: skip

    said = sentence(all_strategies, external=tuple(sources[::-1]))

    assert said.index("of first") < said.index("of second")
    assert "the figures do not hold on third and fourth either" in said


def test_of_each_source_the_widest_gap_is_kept_and_these_stand_widest_first(all_strategies):
    wide, middle, narrow = (
        replace(CONTRADICTION, source=s, external=Interval(v, v - 5, v + 5))
        for s, v in (("first", 20.0), ("second", 30.0), ("first", 60.0))
    )

    assert contradictions([narrow, middle, wide], "scratch") == [wide, middle]


def test_a_source_is_named_once_by_its_widest_gap_and_for_the_winner(all_strategies):
    narrow = replace(CONTRADICTION, measure="recall", external=Interval(80.0, 70.0, 90.0))
    of_another = replace(CONTRADICTION, strategy="off-the-shelf", external=Interval(1.0, 0.0, 3.0))

    assert contradictions([narrow, of_another, CONTRADICTION], "scratch") == [CONTRADICTION]


def test_a_contradiction_of_another_strategy_is_better_than_none(all_strategies):
    of_another = replace(CONTRADICTION, strategy="off-the-shelf")

    assert contradictions([of_another], "scratch") == [of_another]


def test_a_contradiction_of_another_strategy_is_a_doubt_under_its_name(all_strategies):
    of_another = replace(CONTRADICTION, strategy="off-the-shelf")

    assert sentence(all_strategies, external=(of_another,)).startswith(
        "Partly: by off-the-shelf features, not the winner, 14 of the 18 images of actualmed without Covid19"
    )


def test_what_is_severe_stands_before_the_doubt_that_another_strategy_raises(all_strategies):
    of_another = replace(CONTRADICTION, strategy="off-the-shelf")

    said = sentence(all_strategies, external=(of_another,), probes=(probe("metadata", 74.0, shortcut=True),))

    assert said.startswith("No: without the lungs")
    assert "; by off-the-shelf features, not the winner, 14 of the 18" in said


def test_images_that_had_nothing_to_be_compared_with_are_not_called_steady(all_strategies):
    alone = replace(CONTRADICTION, internal=Interval(None), contradicts=False)

    said = sentence(all_strategies, external=(alone,), left_out=(alone,))

    assert "actualmed" not in said
    assert "left out of training" not in said


def test_sources_left_out_without_a_fall_are_not_called_equal(all_strategies):
    level = replace(CONTRADICTION, external=Interval(97.0, 94.0, 100.0), contradicts=False)

    assert "no source left out of training is recognised clearly worse" in sentence(all_strategies, left_out=(level,))


def test_external_images_that_agree_are_no_reason(all_strategies):
    agreeing = replace(CONTRADICTION, external=Interval(97.0, 94.0, 100.0), contradicts=False)

    assert assess_credibility(all_strategies, findings(external=(agreeing,))).verdict == NOT_CONTRADICTED


def test_a_probe_that_knows_too_much_ends_belief(all_strategies):
    said = sentence(all_strategies, probes=(probe(), probe("metadata", 74.0, shortcut=True)))

    assert said == (
        "No: without the lungs 7-class accuracy is 74.00 % (72.00 to 76.00) by “metadata” (the winner: 88.00 %), by "
        "chance 34.00 %."
    )


def test_single_sources_are_a_doubt_and_the_source_told_from_pixels_another(all_strategies):
    judged = assess_credibility(all_strategies, findings(association=SINGLE, source_probes=(told_source(95.0),)))

    assert judged.verdict == PARTLY_SUPPORTED
    assert judged.alarm
    assert "3 of 7 classes come from a single source (Cramér's V 0.87" in judged.because
    assert "the source is told from whole images for 95.00" in judged.because


def test_a_source_that_is_hardly_told_is_no_reason(all_strategies):
    assert "told from whole images" not in sentence(
        all_strategies, association=SINGLE, source_probes=(told_source(60.0),)
    )


def test_a_source_that_says_nothing_of_the_class_may_be_told(all_strategies):
    assert assess_credibility(all_strategies, findings(source_probes=(told_source(99.0),))).verdict == NOT_CONTRADICTED


def test_class_and_source_may_go_together_without_a_single_source(all_strategies):
    assert "class and source go together (Cramér's V 0.55" in sentence(
        all_strategies, association=Association(0.55, {}, 3)
    )


def test_one_source_leaves_open_what_holds_elsewhere(all_strategies):
    alone = Association(None, {}, 1)
    agreeing = replace(CONTRADICTION, contradicts=False)

    assert "all images come from one source" in sentence(all_strategies, association=alone)
    assert (
        assess_credibility(all_strategies, findings(association=alone, external=(agreeing,))).verdict
        == NOT_CONTRADICTED
    )


def test_heatmaps_beside_the_lungs_are_a_doubt(all_strategies):
    outside = replace(LUNGS_SEEN, share=Interval(21.0, 18.0, 24.0), low=True)

    assert sentence(all_strategies, lungs=outside) == (
        "Partly: only 21.00 % (18.00 to 24.00) of the heatmaps lies in the lung field, which covers 30.00 % of the "
        "image (a weak sign by itself)."
    )


def test_a_source_left_out_of_training_that_is_not_recognised_ends_belief(all_strategies):
    missed = replace(CONTRADICTION, source="cohen", measure="recall", label="Covid19", images=40)

    said = sentence(all_strategies, left_out=(missed, replace(missed, label="Normal")))

    assert said.startswith("No: trained without cohen, a simple recipe recognises 22.22 % of its 40 Covid19 images")
    assert "and 1 other pair of class and source likewise" in said


def test_the_paper_protocol_is_a_doubt_with_its_figure_where_it_is_known(as_printed):
    leaking = LeakageFinding("scratch", Interval(3.2, 1.1, 5.0, signed=True))
    harmless = LeakageFinding("scratch", Interval(0.2, -1.1, 1.5, signed=True))

    assert "both sides of a fold, which makes figures too high." in sentence(as_printed)
    assert "too high; they are 3.20 points above those of grouped folds." in sentence(as_printed, leakage=leaking)
    assert assess_credibility(as_printed, findings(leakage=harmless)).verdict == NOT_CONTRADICTED


def test_leakage_under_the_other_protocol_does_not_speak_against_grouped_folds(all_strategies):
    leaking = LeakageFinding("scratch", Interval(3.2, 1.1, 5.0, signed=True))

    assert assess_credibility(all_strategies, findings(leakage=leaking)).verdict == NOT_CONTRADICTED


def test_all_probes_that_know_too_much_stand_together(all_strategies):
    both = (probe("metadata", 74.0, shortcut=True), probe("without-lungs", 79.0, shortcut=True))

    assert sentence(all_strategies, probes=both) == (
        "No: without the lungs 7-class accuracy is 79.00 % (77.00 to 81.00) by “without lungs” (the same recipe on "
        "whole images: 88.00 %) and 74.00 % (72.00 to 76.00) by “metadata” (the winner: 88.00 %), by chance 34.00 %."
    )


def test_what_has_no_room_in_the_sentence_is_kept(all_strategies):
    judged = assess_credibility(
        all_strategies,
        findings(
            external=(CONTRADICTION,),
            probes=(probe("metadata", 74.0, shortcut=True),),
            association=SINGLE,
            source_probes=(told_source(95.0),),
        ),
    )

    assert [clause[:16] for clause in judged.because.split("; ")[:3]] == [
        "14 of the 18 ima", "without the lung", "3 of 7 classes c"
    ]  # fmt: skip
    assert [reason.text[:20] for reason in judged.further] == ["the source is told f"]
