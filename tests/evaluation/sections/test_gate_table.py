from dataclasses import replace

import numpy as np

from cxr_platform.evaluation.sections.gate_table import gate_table
from cxr_platform.evaluation.sections.measures import compute, render
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from tests.evaluation.planted import predictions, report_inputs

LABELS = ["Covid19"] * 10 + ["Normal"] * 10
NAMED = ["Covid19"] * 6 + ["Normal"] * 4 + ["Covid19"] * 1 + ["Normal"] * 9
DISAGREEING = np.isin(np.arange(20), [6, 7, 11])


def test_images_are_named_by_both_heads_or_indeterminate_or_of_another_class() -> None:
    scored = predictions(["web"] * 20, LABELS, NAMED)
    gated = replace(scored, indeterminate={"scratch": DISAGREEING})
    table = gate_table(gated, Bootstrap(gated.group_id), synthetic=False)
    assert table is not None
    assert [row.labels[1] for row in table.rows] == ["Covid19", "other"]
    assert [[cell.value for cell in row.values] for row in table.rows] == [[60, 20, 20], [10, 10, 80]]  # type: ignore[union-attr]
    assert all(cell.low < cell.value < cell.high for row in table.rows for cell in row.values)  # type: ignore[union-attr, operator]
    assert "fitted within the origins that have Covid19 and other images does not" in table.note
    assert gate_table(scored, Bootstrap(scored.group_id), synthetic=False) is None


def test_the_section_with_all_measures_shows_the_gate_of_a_study_that_has_one() -> None:
    plain = report_inputs(predictions(["web"] * 20, LABELS, NAMED))
    gated = replace(plain, predictions=replace(plain.predictions, indeterminate={"scratch": DISAGREEING}))
    names = [[table.name for table in render(inputs, compute(inputs)).tables] for inputs in (plain, gated)]
    assert names[1] == [*names[0], "gate"]
