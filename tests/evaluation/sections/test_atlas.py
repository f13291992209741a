from dataclasses import replace

import pytest

from cxr_platform.evaluation.evidence_files import Evidence
from cxr_platform.evaluation.results_json import plain
from cxr_platform.evaluation.sections.atlas import compute, render
from tests.evaluation.sections.explained_study import atlas, explained_study, without


def test_the_features_that_were_best_where_chosen_come_first():
    features = compute(explained_study())

    assert [(f.label, f.fold, f.feature) for f in features] == [
        ("Covid19", 1, 10),
        ("Covid19", 1, 11),
        ("Normal", 1, 10),
        ("Normal", 1, 11),
    ]
    assert (features[0].auc_chosen, features[0].auc_held) == (pytest.approx(0.95), pytest.approx(0.85))
    assert (features[0].matched_folds, features[0].folds) == (2, 2)


def test_the_text_says_that_features_are_not_biomarkers():
    inputs = explained_study()
    text = " ".join(render(inputs, compute(inputs)).lead)

    assert "None of these is a biomarker" in text
    assert "another hospital" in text
    assert "on the other half, so that the selection does not inflate" in text
    assert "2 occur in all 2 networks and 2 in no other network" in text


def test_features_that_separate_a_source_are_counted():
    inputs = explained_study()
    made = render(inputs, compute(inputs))

    assert (
        "2 of them separate a source with an AUC of 0.8 or more (Covid19), 2 at least as well as their class"
        in (made.lead[-1])
    )
    assert made.tables[0].columns[-2:] == ("highest for the source", "AUC for that source")
    assert plain(made.values)["features"][0]["auc_source"] == pytest.approx(0.9)


def test_the_text_says_if_no_feature_separates_a_source():
    inputs = explained_study()
    frame = atlas(several=True).assign(auc_source=0.6)
    parts = {**inputs.evidence.parts, "atlas": frame}
    inputs = replace(inputs, evidence=Evidence(parts))

    assert render(inputs, compute(inputs)).lead[-1] == "None of them separates a source with an AUC of 0.8 or more."


def test_with_one_source_neither_text_nor_table_mentions_it():
    inputs = explained_study(several=False)
    made = render(inputs, compute(inputs))

    assert len(made.tables[0].columns) == 3
    assert not any("source with an AUC" in sentence for sentence in made.lead)
    assert made.values["features"][0]["source"] is None


def test_the_picture_shows_the_first_feature_of_each_class():
    inputs = explained_study(synthetic=True)
    (picture,) = render(inputs, compute(inputs)).pictures

    assert picture.alt.startswith("Synthetic images. ")
    assert "Covid19: AUC 0.850, in 2 of 2 networks; Normal: AUC 0.850" in picture.alt
    assert picture.png.startswith(b"\x89PNG")


def test_without_images_there_is_only_the_table():
    inputs = replace(explained_study(), images=None)
    made = render(inputs, compute(inputs))

    assert not made.pictures
    assert len(made.tables[0].rows) == 4


def test_without_an_atlas_the_section_says_why():
    absent = without(explained_study(), "atlas")
    empty = explained_study()
    empty = replace(empty, evidence=Evidence({"atlas": atlas(several=True).head(0)}))

    assert render(absent, compute(absent)).absent == "No weights are at hand."
    assert render(empty, compute(empty)).absent.startswith("No class has enough images")


@pytest.mark.parametrize(("units", "shown"), [(256, "256"), (2500, "2,500")])
def test_the_text_has_the_number_of_features_of_a_network(units, shown):
    inputs = explained_study()
    profile = inputs.study.profile
    profile = replace(profile, model=replace(profile.model, dense_units=units))
    study = inputs.study.model_copy(update={"profile": profile})
    text = " ".join(render(replace(inputs, study=study), compute(inputs)).lead)

    assert f"Each network's {shown} features were ranked" in text
