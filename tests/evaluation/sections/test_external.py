import json

from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections import external
from cxr_platform.evaluation.table import to_csv
from tests.evaluation.planted import STRATEGY
from tests.evaluation.probed import study, unseen_frame, with_evidence
from tests.evaluation.statistics.test_external_pairs import SIDES, Sides, frame

IMAGES = ["Covid19"] * 6 + ["Normal"] * 18
FALLEN = ["Covid19"] * 6 + ["Covid19"] * 14 + ["Normal"] * 4


def scored(first: list[str], second: list[str], *, synthetic: bool = False) -> ReportInputs:
    made = study(200, synthetic=synthetic)
    return with_evidence(made, external=unseen_frame(IMAGES, {(STRATEGY, 0): first, (STRATEGY, 1): second}))


def test_a_lower_specificity_is_a_contradiction_with_a_warning() -> None:
    made = scored(FALLEN, FALLEN)
    results = external.compute(made)
    fallen = next(r for r in results.rates if r.measure == "specificity")
    assert (fallen.images, fallen.wrong, fallen.contradicts) == (18, 14, True)
    section = external.render(made, results)
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
    assert external.compute(made) == external.ExternalResults()
    assert external.render(made, external.ExternalResults()).absent == "No source is marked external."


def with_pairs(sides: Sides) -> Section:
    """The section for images of `sides`: those with a class are external, the others outside."""
    scored = frame(sides)
    of_class = scored["label"].notna()
    parts = {"external": scored[of_class].drop(columns="finding"), "outside": scored[~of_class]}
    made = with_evidence(study(), **{name: part for name, part in parts.items() if len(part)})
    return external.render(made, external.compute(made))


def test_covid19_is_ranked_against_external_and_outside_images_of_other_sources() -> None:
    section = with_pairs([*SIDES[:2], ("ohio", "Pneumonia", None, 25, 0.9), SIDES[3]])
    table = section.tables[1]
    assert (table.name, table.title) == ("external-pairs", external.PAIRS_TITLE)
    assert [row.labels for row in table.rows] == [
        ("spain", "ohio", "Normal"),
        ("spain", "ohio", "Pneumonia"),
        ("spain", "shenzhen", "tuberculosis"),
        ("mean", "", ""),
    ]
    assert section.lead[-1].startswith("Training from scratch: mean AUC of Covid19 0.")
    assert "over 3 pairs of two sources; the worst is Covid19 of spain against Pneumonia of ohio" in section.lead[-1]
    assert [table.name for table in section.folded] == ["external-all", "external-pairs-all"]
    values = json.loads(json.dumps(section.values["pairs"]))["scratch"]
    assert values["worst"]["finding"] == "Pneumonia"
    assert values["mean_auc"]["low"] < values["mean_auc"]["value"] < values["mean_auc"]["high"]
    assert [(pair["finding"], pair["counts"]) for pair in values["pairs"]] == [
        ("Normal", True), ("Pneumonia", True), ("tuberculosis", True),
    ]  # fmt: skip


def test_pairs_that_are_ranked_the_wrong_way_round_are_a_warning() -> None:
    raised: Sides = [("spain", "Covid19", None, 30, 0.0), ("ohio", "Normal", None, 30, 2.0)]
    section = with_pairs(raised)
    assert "1 pair is significantly ranked the wrong way round." in section.warnings[-1]
    assert not any("mean AUC" in line for line in section.lead)


def test_without_covid19_among_the_external_images_there_is_no_table_of_pairs() -> None:
    section = with_pairs([side for side in SIDES if side[1] != "Covid19"])
    assert [table.name for table in (*section.tables, *section.folded)] == ["external", "external-all"]
    assert section.values["pairs"] == {}
    assert not any("AUC" in line for line in (*section.lead, *section.warnings))
