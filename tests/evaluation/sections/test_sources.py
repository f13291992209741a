import io
from dataclasses import replace

import pytest
from PIL import Image

from cxr_platform.evaluation.finding_clauses import confounding_warning
from cxr_platform.evaluation.findings import Association
from cxr_platform.evaluation.sections import sources
from cxr_platform.evaluation.sections.sources import source_bars
from cxr_platform.evaluation.table import to_csv
from cxr_platform.labels import CLASSES
from tests.evaluation.planted import predictions, report_inputs


def computed_and_rendered(images, **options):
    association = sources.compute(images)
    return association, sources.render(images, association)


@pytest.fixture(scope="module")
def confounded():
    """A study in which each class but Normal is from one of two sources."""
    label = [c for c in CLASSES for _ in range(10)]
    source = ["chest" if c in ("Pneumonia", "Effusion") else "hospital" for c in label]
    source[-1] = "chest"
    return report_inputs(predictions(source, label), external={"Covid19": {"abroad": 26}, "Normal": {"abroad": 18}})


def test_classes_with_one_source_are_named_with_it(confounded):
    association, section = computed_and_rendered(confounded)

    assert association.single_source == {
        c: "chest" if c in ("Pneumonia", "Effusion") else "hospital" for c in CLASSES[:-1]
    }
    [warning] = section.warnings
    assert "Covid19, Edema, Emphysema, Fibrosis only from hospital" in warning
    assert "Effusion, Pneumonia only from chest" in warning
    assert "Normal" not in warning


def test_the_text_states_the_association_and_the_accuracy_of_the_source_rule(confounded):
    association, section = computed_and_rendered(confounded)

    assert f"Cramér's V {association.cramers_v:.3f}" in section.lead[0]
    assert "28.57\N{NO-BREAK SPACE}%" in section.lead[1]  # a tenth of 20 images of 70: one class of each source
    assert section.values["source_rule"]["accuracy_7_class"] == pytest.approx(100 * 20 / 70)


def test_external_images_have_their_own_table_and_enter_no_figure(confounded):
    association, section = computed_and_rendered(confounded)
    outside = next(t for t in section.tables if t.name == "external-counts")

    assert association.sources == 2
    assert [(row.labels[0], row.values) for row in outside.rows] == [
        ("Covid19", (26,)),
        ("Normal", (18,)),
        ("All classes", (44,)),
    ]
    assert "abroad" in section.lead[-1]
    assert "abroad" not in to_csv(section.folded[0]) + section.pictures[0].alt
    assert section.values["external"] == {"Covid19": {"abroad": 26}, "Normal": {"abroad": 18}}


def test_collections_of_one_origin_count_as_one_source():
    label = [c for c in CLASSES for _ in range(4)]
    source = ["nih" if i % 2 else "renamed" if c == "Effusion" else "chest" for i, c in enumerate(label)]
    several = report_inputs(predictions(source, label), external={"Normal": {"abroad": 3}})
    assert sources.compute(several).single_source == {}
    origins = dict.fromkeys(("nih", "renamed", "abroad"), "NIH")
    study = several.study.model_copy(
        update={"manifest": several.study.manifest.model_copy(update={"origins": origins})}
    )
    one = replace(several, study=study, results=replace(several.results, study=study))
    association, section = computed_and_rendered(one)

    assert (association.sources, association.single_source) == (2, {"Effusion": "NIH"})
    assert "Collections of one origin count as one source: nih and renamed (NIH)." in section.lead
    assert section.lead[-1].startswith("External, but of an origin that was trained on: abroad (NIH).")
    assert section.values["origins"] == origins
    assert one.results.counts["Effusion"] == {"nih": 2, "renamed": 2}


def test_shares_of_a_class_sum_to_a_hundred(confounded):
    _, section = computed_and_rendered(confounded)

    for row in section.folded[0].rows:
        assert sum(row.values[1:]) == pytest.approx(100)


def test_one_source_in_the_study_gives_no_warning():
    images = report_inputs(predictions(["only"] * 4, ["Covid19", "Normal"] * 2))
    association, section = computed_and_rendered(images)

    assert (association.cramers_v, association.sources) == (None, 1)
    assert "All images of the study come from one source" in section.lead[0]
    assert (section.warnings, section.pictures, section.folded) == ((), (), ())
    assert section.values["source_rule"] is None


def test_balanced_sources_give_no_warning():
    images = report_inputs(predictions(["a", "b"] * 7, [c for c in CLASSES for _ in range(2)]))
    association, section = computed_and_rendered(images)

    assert association.cramers_v == pytest.approx(0, abs=1e-9)
    assert section.warnings == ()


def test_one_class_from_two_sources_has_no_association():
    _, section = computed_and_rendered(report_inputs(predictions(["a", "b"], ["Normal", "Normal"])))

    assert "cannot be associated" in section.lead[0]


def test_there_is_no_confounding_warning_with_one_source():
    assert confounding_warning(Association(None, {"Normal": "only"}, 1)) == ""
    assert confounding_warning(Association(0.5, {}, 2)) == ""


def test_synthetic_images_are_marked_everywhere():
    _, section = computed_and_rendered(report_inputs(predictions(["a", "b"], ["Normal", "Covid19"]), synthetic=True))

    assert all(table.synthetic for table in (*section.tables, *section.folded))
    assert section.pictures[0].alt.startswith("Synthetic images.")


def test_the_alternative_text_contains_the_shares():
    picture = source_bars({"Covid19": {"a": 3, "b": 1}, "Normal": {"a": 2}}, synthetic=False)

    assert "Covid19: a 75.00, b 25.00; Edema: no images" in picture.alt
    assert Image.open(io.BytesIO(picture.png)).format == "PNG"


def test_sources_beyond_the_available_looks_are_combined():
    many = {"Normal": {f"source-{i}": 10 - i for i in range(9)}}
    picture = source_bars(many, synthetic=False)

    assert "source-8 3.70" in picture.alt
    assert Image.open(io.BytesIO(picture.png)).height > 600
