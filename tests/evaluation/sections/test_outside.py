import json

from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections import outside
from cxr_platform.evaluation.table import to_csv
from tests.evaluation.probed import study, with_evidence
from tests.evaluation.statistics.test_outside import frame

MANY = ["Covid19"] * 30 + ["Normal"] * 10
NONE = ["Normal"] * 40


def scored(called: list[str], finding: list[str] | None = None, *, synthetic: bool = False) -> ReportInputs:
    return with_evidence(study(200, synthetic=synthetic), outside=frame(called, finding))


def rendered(made: ReportInputs) -> outside.Section:
    return outside.render(made, outside.compute(made))


def test_another_disease_that_is_called_covid19_is_a_warning() -> None:
    section = rendered(scored(MANY))
    assert section.warnings[0].startswith(
        "30 of the 40 images of far (tuberculosis, none of the seven classes) are called Covid19: 75.00\u00a0% ("
    )
    assert "in cross-validation 0.00\u00a0%" in section.warnings[0]
    assert section.lead == (outside.METHOD,)


def test_a_disease_that_is_not_called_covid19_is_a_plain_sentence() -> None:
    section = rendered(scored(NONE))
    assert section.warnings == ()
    assert section.lead[1].startswith("0 of the 40 images of far")


def test_the_table_has_the_share_of_every_class_with_its_interval() -> None:
    section = rendered(scored(MANY))
    rows = to_csv(section.tables[0]).splitlines()
    assert rows[0] == 'Answer,far (%),"far (%), low","far (%), high"'
    assert rows[1].startswith("Covid19,75.0000,")
    assert rows[-1].startswith("images,40")
    assert [table.name for table in section.tables] == ["outside"]
    assert json.loads(json.dumps(dict(section.values)))["findings"][0]["shares"]["Covid19"]["value"] == 75


def test_several_findings_of_a_source_have_a_table_and_small_ones_are_marked() -> None:
    section = rendered(scored(MANY, ["SARS"] * 35 + ["Nocardia"] * 5))
    rows = section.tables[1].rows
    assert [(row.labels, row.values[:2], row.values[3], row.kind) for row in rows] == [
        (("far", "SARS"), (35, 30), "Covid19", ""),
        (("far", "Nocardia"), (5, 0), "Normal", "small"),
    ]


def test_few_patients_are_no_more_than_a_hint() -> None:
    assert "fewer than 20 patients" in rendered(scored(["Covid19"] * 6)).warnings[0]


def test_the_picture_has_cross_validation_beside_the_sources() -> None:
    picture = rendered(scored(MANY, synthetic=True)).pictures[0]
    assert picture.png.startswith(b"\x89PNG")
    assert picture.alt.startswith("Synthetic images.")
    assert "far n = 40 75.00" in picture.alt


def test_without_outside_images_the_section_says_why() -> None:
    made = with_evidence(study(), {"outside": "No source is marked outside."})
    assert outside.compute(made) == ()
    assert outside.render(made, ()).absent == "No source is marked outside."
