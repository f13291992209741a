from dataclasses import replace

import pandas as pd
import pytest

from cxr_platform.evaluation.sections import reader_labels
from cxr_platform.evaluation.sections.reader_labels import WITHOUT_LABELS, WITHOUT_MANIFEST
from tests.evaluation.planted import predictions, report_inputs

LABEL = ["Pneumonia"] * 30 + ["Normal"] * 30 + ["Edema"] * 20
READER = [*["Normal"] * 12, *["Pneumonia"] * 12, *[None] * 6, *["Normal"] * 24, *["Pneumonia"] * 6, *[None] * 20]


def rendered(reader, source=("nih",)):
    scored = predictions([source[i % len(source)] for i in range(len(LABEL))], LABEL)
    made = report_inputs(scored, {"reader_label": reader, "reader_finding": reader})
    numbers = reader_labels.compute(made)
    return numbers, reader_labels.render(made, numbers)


def test_agreement_noise_and_figures_under_both_labels_are_shown():
    numbers, section = rendered(READER)
    (agreement,) = numbers.agreements
    assert agreement.images == 54
    assert "66.67\N{NO-BREAK SPACE}% (" in section.lead[0]
    assert "of 54 images" in section.lead[0]
    assert "Pneumonia 50.00" in section.lead[1]
    assert "Normal 20.00" in section.lead[1]
    assert [table.name for table in (*section.tables, *section.folded)] == [
        "reader-noise",
        "reader-rates",
        "reader-counts",
    ]
    last = section.tables[1].rows[-1]
    assert last.labels == ("7-class accuracy, all images",)
    assert [last.values[0], last.values[2]] == [80, 80]
    assert last.values[1].value == 100
    assert last.values[3].value == pytest.approx(100 * (80 - 18) / 80)
    values = section.values["agreement"][0]
    assert (values["images"], values["noise"]["Normal"]["images"]) == (54, 30)


def test_labels_that_agree_hardly_better_than_by_chance_are_a_warning():
    assert "hardly better than by chance" in rendered(READER)[1].warnings[0]
    assert rendered([*["Pneumonia"] * 30, *["Normal"] * 30, *[None] * 20])[1].warnings == ()


def test_images_on_which_readers_disagree_are_counted():
    numbers, section = rendered([*READER[:-2], "undecided", "undecided"])

    assert numbers.undecided == section.values["undecided"] == 2
    assert section.lead[2].startswith("2 images are not compared, because equally many readers")


def test_several_sources_are_shown_with_all_of_them_last():
    numbers, _ = rendered(READER, source=("nih", "ours"))
    assert [a.source for a in numbers.agreements] == ["nih", "ours", "all sources"]


def test_without_readers_the_section_says_how_to_name_them():
    numbers, section = rendered([None] * len(LABEL))
    assert numbers is None
    assert section.absent == WITHOUT_LABELS
    made = report_inputs(predictions(["nih"] * len(LABEL), LABEL))
    assert reader_labels.render(made, reader_labels.compute(made)).absent == WITHOUT_MANIFEST


def test_facts_without_columns_of_readers_give_no_agreement():
    made = report_inputs(predictions(["nih"] * len(LABEL), LABEL), {})
    assert reader_labels.compute(replace(made, images=replace(made.images, facts=pd.DataFrame()))) is None
