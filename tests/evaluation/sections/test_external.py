import json

from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections import external
from cxr_platform.evaluation.table import to_csv
from tests.evaluation.planted import STRATEGY
from tests.evaluation.probed import study, unseen_frame, with_evidence

IMAGES = ["Covid19"] * 6 + ["Normal"] * 18
FALLEN = ["Covid19"] * 6 + ["Covid19"] * 14 + ["Normal"] * 4


def scored(first: list[str], second: list[str], *, synthetic: bool = False) -> ReportInputs:
    made = study(200, synthetic=synthetic)
    return with_evidence(made, external=unseen_frame(IMAGES, {(STRATEGY, 0): first, (STRATEGY, 1): second}))


def test_a_lower_specificity_is_a_contradiction_with_a_warning() -> None:
    made = scored(FALLEN, FALLEN)
    rates = external.compute(made)
    fallen = next(r for r in rates if r.measure == "specificity")
    assert (fallen.images, fallen.wrong, fallen.contradicts) == (18, 14, True)
    section = external.render(made, rates)
    assert section.warnings[0].startswith(
        "elsewhere: 14 of 18 images without Covid19 are called Covid19 (specificity 22.22"
    )
    assert "This contradicts cross-validation." in section.warnings[0]
    assert not any("No figure on external images contradicts" in line for line in section.lead)


def test_images_classified_as_in_cross_validation_contradict_nothing() -> None:
    made = scored(IMAGES, IMAGES)
    section = external.render(made, external.compute(made))
    assert section.warnings == ()
    assert section.lead[0] == "No figure of the winner on external images contradicts cross-validation."
    assert any("0 of 6 images of Covid19 are missed" in line for line in section.lead)


def test_the_table_has_the_range_of_the_single_networks() -> None:
    made = scored(FALLEN, IMAGES)
    section = external.render(made, external.compute(made))
    rows = to_csv(section.tables[0])
    assert "specificity of Covid19,18," in rows
    assert "22.22 to 100.00" in rows
    assert section.folded[0].name != section.tables[0].name
    values = json.loads(json.dumps(dict(section.values)))
    assert {v["measure"] for v in values["strategies"]} == {"sensitivity", "specificity", "recall"}


def test_the_picture_has_each_rate_next_to_cross_validation() -> None:
    made = scored(FALLEN, FALLEN, synthetic=True)
    picture = external.render(made, external.compute(made)).pictures[0]
    assert picture.png.startswith(b"\x89PNG")
    assert picture.alt.startswith("Synthetic images.")
    assert "specificity of Covid19, n = 18 22.22" in picture.alt
    assert "in cross-validation 100.00" in picture.alt


def test_without_external_images_the_section_says_why() -> None:
    made = with_evidence(study(), {"external": "No source is marked external."})
    assert external.compute(made) == ()
    assert external.render(made, ()).absent == "No source is marked external."
