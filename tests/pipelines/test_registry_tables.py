import io

from rich.console import Console
from rich.table import Table

from cxr_platform.monitoring.shadow_counts import ShadowCounts
from cxr_platform.registry.bundle_comparison import compare
from cxr_platform.registry.store import VersionCheck
from pipelines.registry_tables import agreement_text, bundle_table, checks_table, comparison_table, decisions_table
from tests.registry.builders import STUDY, changed, make_bundle


def printed(table: Table) -> str:
    stream = io.StringIO()
    Console(file=stream, width=120, markup=False).print(table)
    return stream.getvalue()


def test_a_bundle_of_synthetic_images_has_them_in_its_title():
    assert "SYNTHETIC IMAGES" in printed(bundle_table(make_bundle(synthetic=True)))
    assert "SYNTHETIC IMAGES" not in printed(bundle_table(make_bundle()))


def test_the_winner_of_the_study_is_named():
    study = changed(STUDY, winner="fine-tuning-3")

    assert "scratch; the study's winner is fine-tuning-3" in printed(bundle_table(make_bundle(study=study)))
    assert "scratch, the study's winner" in printed(bundle_table(make_bundle()))


def test_only_a_decisive_figure_is_marked_as_worse():
    lines = printed(comparison_table(compare(make_bundle("v2", 70.0, 95.0), make_bundle()))).splitlines()

    (worse,) = [line for line in lines if "(worse)" in line]
    assert "7-class accuracy" in worse


def test_a_first_champion_is_compared_with_nothing():
    assert "no champion yet" in printed(comparison_table(compare(make_bundle(), None)))


def test_a_problem_is_printed_in_full():
    problem = "Expected " + "a long path/" * 30 + "end."
    text = printed(checks_table([VersionCheck("v1", None), VersionCheck("v2", problem)]))

    assert "unchanged" in text
    assert "end." in text


def test_decisions_of_both_versions_are_counted_in_rows_and_columns():
    decisions = {("positive", "positive"): 1200, ("negative", "positive"): 3}
    lines = printed(decisions_table(ShadowCounts("v1", "v2", decisions, {}, {}))).splitlines()
    assert any("v1, the champion" in line and "v2: positive" in line for line in lines)
    assert any("positive" in line and "1,200" in line for line in lines)


def test_the_agreement_is_stated_with_what_was_skipped_and_the_drift():
    decisions = {("positive", "positive"): 3, ("negative", "positive"): 1}
    text = agreement_text(ShadowCounts("v1", "v2", decisions, {"failed": 2}, {"contrast": 0.1, "padding": 0.31}))
    assert "v2 decided as v1 for 75.00" in text
    assert "2 (failed)" in text
    assert "padding, PSI 0.31" in text
    assert "serve with --shadow" in agreement_text(ShadowCounts("v1", "v2", {}, {}, {}))
