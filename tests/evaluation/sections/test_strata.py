import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cxr_platform.evaluation.report_inputs import ManifestImages, ReportInputs
from cxr_platform.evaluation.results_json import plain
from cxr_platform.evaluation.sections import strata
from cxr_platform.evaluation.statistics.strata import ALL, Stratum
from tests.evaluation.planted import STRATEGY
from tests.evaluation.probed import study, unseen_frame, with_evidence

LABELS = ["Covid19"] * 40 + ["Normal"] * 40
SAID = ["Covid19"] * 30 + ["Normal"] * 10 + ["Covid19"] * 10 + ["Normal"] * 30


def inputs(frame: pd.DataFrame, **facts: object) -> ReportInputs:
    made = with_evidence(study(), external=frame)
    if not facts:
        return made
    columns = pd.DataFrame({"view": None, "sex": None, "age": np.nan, **facts}, index=frame["image_id"].unique())
    return replace(made, images=ManifestImages(columns, lambda _: np.zeros((0, 8, 8), np.uint8)))


def frame() -> pd.DataFrame:
    return unseen_frame(LABELS, {(STRATEGY, 0): SAID, (STRATEGY, 1): SAID})


def rows(made: ReportInputs) -> dict[tuple[str, str], Stratum]:
    return {(s.scope, f"{s.by} {s.name}" if s.by != "all" else "all"): s for s in strata.compute(made)}


def test_the_figures_are_those_of_the_images_of_each_stratum():
    by_view = rows(inputs(frame(), view=["AP"] * 30 + ["PA"] * 10 + ["AP"] * 10 + ["PA"] * 30))
    everything, ap, pa = (by_view[ALL, key] for key in ("all", "view AP", "view PA"))

    assert (everything.sensitivity.value, everything.specificity.value) == (75, 75)
    assert (ap.images, ap.others, ap.sensitivity.value, ap.specificity.value) == (30, 10, 100, 0)
    assert (pa.images, pa.others, pa.sensitivity.value, pa.specificity.value) == (10, 30, 0, 100)
    assert ap.auc.value == pa.auc.value == 0.5


def test_a_variable_that_alone_separates_is_warned_of():
    made = inputs(frame(), view=["AP"] * 30 + ["PA"] * 10 + ["AP"] * 10 + ["PA"] * 30, sex=["M", "F"] * 40)
    section = strata.render(made, strata.compute(made))
    by = rows(made)

    assert by[ALL, "view AP"].alone.value == pytest.approx(0.75)
    assert by[ALL, "sex male"].alone.value == pytest.approx(0.5)
    (warning,) = section.warnings
    assert warning.startswith("All external images: the view alone separates Covid19 with AUC 0.750 (")
    assert "; the network reaches 0.750 (" in warning


def test_a_variable_that_separates_a_small_collection_is_warned_of_with_its_interval():
    """As in a collection of 26 images of Covid19, most of them AP, and 18 others, most of them PA."""
    labels = ["Covid19"] * 26 + ["Normal"] * 18
    made = inputs(
        unseen_frame(labels, {(STRATEGY, 0): labels}), view=["AP"] * 22 + ["PA"] * 7 + ["AP"] * 3 + ["PA"] * 12
    )
    alone = rows(made)[ALL, "view AP"].alone
    assert 0.7 < alone.value < 0.9
    assert (
        strata.render(made, strata.compute(made))
        .warnings[0]
        .startswith("All external images: the view alone separates")
    )
    few = inputs(unseen_frame(labels[17:35], {(STRATEGY, 0): labels[17:35]}), view=["AP"] * 9 + ["PA"] * 9)
    assert rows(few)[ALL, "view AP"].alone.value is None


def test_an_unknown_value_is_a_stratum_of_its_own_and_a_constant_variable_is_left_out():
    by = rows(inputs(frame(), age=[30.0] * 40 + [np.nan] * 40))

    assert by[ALL, "age unknown"].images == 0
    assert by[ALL, "age 18–39"].alone.value == 1
    assert not any("view" in key for _, key in by)


def test_an_origin_with_both_kinds_of_images_is_divided_on_its_own():
    part = frame()
    source = np.where(part["image_id"].str.removeprefix("new-").astype(int) % 4 == 0, "north", "south")
    made = inputs(part.assign(source=source))
    made.study.manifest.origins["north"] = "a northern hospital"

    assert set(rows(made)) == {
        (ALL, "all"),
        (ALL, "origin a northern hospital"),
        (ALL, "origin south"),
        ("a northern hospital", "all"),
        ("south", "all"),
    }


def test_the_text_says_if_nothing_separates_and_if_the_manifest_is_missing():
    made = inputs(frame())
    section = strata.render(made, strata.compute(made))

    assert section.lead[1] == "No variable alone separates Covid19 with an AUC of 0.7 or more."
    assert "divided by origin only" in section.lead[2]
    assert json.loads(json.dumps(plain(section.values), allow_nan=False))["strata"][0]["by"] == "all"


def test_few_images_are_marked():
    made = inputs(frame(), sex=["F"] * 5 + ["M"] * 75)
    (table,) = strata.render(made, strata.compute(made)).tables

    assert {row.labels[1]: row.kind for row in table.rows} == {"all": "total", "sex: female": "small", "sex: male": ""}


def test_without_external_images_the_section_says_why():
    made = with_evidence(study(), {"external": "No source is marked external."})
    assert strata.render(made, strata.compute(made)).absent == "No source is marked external."
