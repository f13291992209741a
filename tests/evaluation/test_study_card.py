import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from cxr_platform.config import RobustConfig, load_profile
from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.findings import CalibrationFinding
from cxr_platform.evaluation.report_contents import ReportContents
from cxr_platform.evaluation.report_inputs import ReportInputs, load_report_inputs
from cxr_platform.evaluation.study_card import FILLED, OPEN, PARTLY, Item, checklists, entry, study_card
from tests.evaluation.builders import drawn, image_frame, with_predictions, write_study
from tests.evaluation.made_findings import (
    CONTRADICTION,
    LUNGS_SEEN,
    OUTSIDE,
    comparison,
    contents,
    findings,
    full_section,
    section,
)
from tests.evaluation.stored import rewritten, write_manifest

IMAGES = image_frame({"Covid19": 40, "Normal": 60}, folds=2)
FRAME = with_predictions(IMAGES, "scratch", drawn(IMAGES, 0.8, seed=1))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> ReportInputs:
    folder = tmp_path_factory.mktemp("study")
    study = rewritten(write_study(folder / "test", FRAME), versions={"keras": "3.15.1", "cxr-platform": "0.1.0"})
    return load_report_inputs(study, write_manifest(folder / "manifest", IMAGES.assign(role="study")))


@pytest.fixture(scope="module")
def everything(inputs: ReportInputs) -> ReportContents:
    """A report with results in every section."""
    names = ("intervals", "sources", "left_out", "calibration", "net_benefit", "subgroups", "failures")
    errors = (Interval(0.12, ratio=True), Interval(0.03, ratio=True))
    made = findings(
        external=(CONTRADICTION,), lungs=LUNGS_SEEN, calibration=CalibrationFinding("scratch", 1.8, *errors)
    )
    return contents(inputs.results, [full_section(name) for name in names], made)


def rows(markdown: str) -> dict[str, str]:
    """The text of each item, CLAIM's by `C1`, TRIPOD+AI's by `T1`, STARD-AI's by `S1`."""
    claim, _, others = markdown.partition("## TRIPOD+AI")
    tripod, _, stard = others.partition("## STARD-AI")
    entries = {}
    for mark, part in (("C", claim), ("T", tripod), ("S", stard)):
        for line in part.splitlines():
            if re.match(r"\| \d", line):
                number, _, _, words = (cell.strip() for cell in line.strip("| ").split(" | "))
                entries[mark + number] = words
    return entries


def test_the_decision_curve_is_among_the_measures(inputs: ReportInputs, everything: ReportContents) -> None:
    item = rows(study_card(inputs, everything))["T12e"]
    assert "“Section net_benefit”" in item
    assert "decision curve" not in item


def test_the_lists_have_all_their_items_in_order():
    claim, tripod, stard = checklists()

    assert [item.number for item in claim.items] == [str(n) for n in range(1, 45)]
    mains = [int(re.match(r"\d+", item.number)[0]) for item in tripod.items]
    assert sorted(set(mains)) == list(range(1, 28))
    assert mains == sorted(mains)
    assert len({item.number for item in tripod.items}) == len(tripod.items) == 52
    parts = {15: "abcd", 16: "abc", 17: "ab", 26: "ab", 40: "ab"}
    assert [item.number for item in stard.items] == [
        f"{number}{letter}" for number in range(1, 41) for letter in parts.get(number, [""])
    ]
    new = ("6", "11", "12", "13", "14", "15b", "15d", "23", "28", "29", "35", "39", "40a", "40b")
    assert tuple(item.number for item in stard.items if "new in STARD-AI" in item.text) == new


def test_every_item_is_either_filled_or_visibly_open(inputs, everything):
    entries = rows(study_card(inputs, everything))

    assert len(entries) == 44 + 52 + 48
    assert all(words for words in entries.values())
    assert not any("{" in words for words in entries.values())


def test_the_counts_at_the_top_are_those_of_the_rows(inputs, everything):
    text = study_card(inputs, everything)
    words = rows(text).values()
    open_ones = sum(cell.startswith("**OPEN**") for cell in words)
    in_part = sum("**OPEN**" in cell for cell in words) - open_ones

    assert (
        f"**{144 - open_ones - in_part} of 144 items filled automatically, {in_part} in part, {open_ones} open.**"
        in text
    )
    assert open_ones >= 20


def test_with_all_facts_only_items_for_the_authors_stay_open(inputs, everything):
    text = study_card(inputs, everything)
    with_fact = {
        f"{mark}{item.number}" for mark, c in zip("CTS", checklists(), strict=True) for item in c.items if item.fill
    }

    opened = {number for number, words in rows(text).items() if words.startswith("**OPEN**")}
    assert opened.isdisjoint(with_fact)


def test_facts_that_were_not_computed_are_open(inputs):
    bare = rows(study_card(inputs, contents(inputs.results, [section("failures", absent="No heatmaps.")])))

    for number in ("C31", "C33", "C39", "T14", "T23b"):
        assert bare[number].startswith("**OPEN**: not computed or not recorded for this report; to be written by")


def test_the_flow_of_the_images_goes_from_files_to_folds(inputs, everything):
    text = study_card(inputs, everything)
    flow = text[text.index("```text") : text.index("```\n", text.index("```text") + 3)]

    assert flow.splitlines()[1:] == [
        "105 files found",
        "│",
        "├─► 5 excluded",
        "│     3 view",
        "│     2 low-contrast",
        "│",
        "100 images in the manifest",
        "│",
        "└─► 100 studied in 2 folds, each tested once per strategy",
        "      Covid19 40, Normal 60",
    ]
    without = ReportInputs(**{**vars(inputs), "images": None})
    assert "**OPEN**: the manifest, which has the numbers, was not given" in study_card(without, everything)


def test_without_a_manifest_its_facts_are_open(inputs, everything):
    without = ReportInputs(**{**vars(inputs), "images": None})

    entries = rows(study_card(without, everything))

    assert entries["C36"].startswith("**OPEN**")
    assert entries["C35"].startswith("**OPEN**")
    assert not entries["C19"].startswith("**OPEN**")


def test_the_level_of_the_folds_has_the_share_of_known_patients(inputs, everything):
    assert rows(study_card(inputs, everything))["C20"].endswith("The patient is known for all 100 images.")


def test_facts_are_those_of_the_study(inputs, everything):
    entries = rows(study_card(inputs, everything))

    assert "2 folds of 50 to 50 images" in entries["C19"]
    assert (
        "105 files found, 5 excluded (low-contrast 2, view 3), 100 images in the manifest, 100 of them"
        in entries["C35"]
    )
    assert "sex: F 50, unknown 50" in entries["C36"]
    assert "50 identified patients" in entries["C36"]
    assert "known for 50 of 100 images" in entries["C36"]
    assert "14 of the 18 images of actualmed" in entries["C33"]
    assert "87.66" in entries["C37"]
    assert "keras 3.15.1, cxr-platform 0.1.0" in entries["C23"]
    assert "rotation to 10.0°, shift to 10.00" in entries["C25"]


def test_external_results_are_those_of_the_winner_under_its_name(inputs):
    other = replace(CONTRADICTION, strategy="off-the-shelf", wrong=3)
    made = findings(external=(CONTRADICTION, other), comparisons=(comparison("off-the-shelf", 1.0, 0.5, 1.5, 0.01),))

    entries = rows(study_card(inputs, contents(inputs.results, with_findings=made)))

    assert entries["C33"].startswith("Training from scratch: 14 of the 18 images")
    assert "3 of the 18" not in entries["C33"]
    assert "sign test over patients" in entries["C29"]


def test_images_outside_the_classes_are_an_analysis_of_robustness(inputs):
    entries = rows(study_card(inputs, contents(inputs.results, with_findings=findings(outside=(OUTSIDE,)))))
    assert "Images outside the classes: 108 of the 200 images of shenzhen" in entries["C30"]


def test_one_strategy_has_no_comparison(inputs, everything):
    entries = rows(study_card(inputs, everything))

    assert "2,000 replicates, seeded" in entries["C29"]
    assert "sign test" not in entries["C29"]


def test_a_head_that_is_solved_is_described_by_its_settings(inputs, everything):
    profile = replace(inputs.results.study.profile, robust=RobustConfig(views=("whole", "lungs"), contrast=True))
    study = inputs.results.study.model_copy(update={"strategies": ("scratch", "robust"), "profile": profile})
    made = replace(inputs, study=study, results=replace(inputs.results, study=study))
    entries = rows(study_card(made, everything))

    assert "robust head: ImageNet weights under a head that is solved" in entries["C24"]
    assert "robust head: solved in closed form, views whole + lungs, contrast True" in entries["C25"]


def test_training_is_described_for_the_strategies_that_ran(inputs, everything):
    entries = rows(study_card(inputs, everything))
    assert "from scratch: random weights; seed 2020" in entries["C24"]
    assert "ImageNet" not in entries["C24"]
    assert f"from scratch: epochs {load_profile('quick').training.scratch.epochs}," in entries["C25"]
    assert "fine-tuning" not in entries["C25"]
    assert "slightly too high" not in entries["C26"]


def test_the_preface_says_that_items_are_paraphrased_and_where_the_originals_are(inputs, everything):
    text = study_card(inputs, everything)

    assert "paraphrased, not quoted" in text
    assert "https://doi.org/10.1148/ryai.240300" in text
    assert "https://doi.org/10.1136/bmj-2023-078378" in text
    assert "https://doi.org/10.1038/s41591-025-03953-8" in text


def test_an_item_is_filled_partly_or_open():
    facts = {"images": "391"}

    def made(fill: str, hint: str):
        return entry(Item("1", "Data", "How many?", fill, hint), facts)

    assert made("{images} images.", "").state == FILLED
    assert made("{images} images.", "").text == "391 images."
    assert made("{images} images.", "which").state == PARTLY
    assert made("{images} images.", "which").text.endswith("**OPEN**: to be added by the authors – which")
    assert made("{patients} patients.", "").state == OPEN
    assert made("", "say how many").text == "**OPEN**: to be written by the authors – say how many"


def test_a_study_of_drawn_images_is_marked(tmp_path: Path):
    frame = pd.concat([FRAME])
    drawn_study = load_report_inputs(write_study(tmp_path / "drawn", frame, synthetic=True))

    assert "**SYNTHETIC IMAGES**" in study_card(drawn_study, contents(drawn_study.results))
