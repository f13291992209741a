import io

from rich.console import Console
from rich.table import Table

from cxr_platform.registry.comparison import compare
from cxr_platform.registry.store import Check
from pipelines.registry_tables import bundle_table, checks_table, comparison_table
from tests.registry.builders import STUDY, changed, make_bundle


def printed(table: Table) -> str:
    stream = io.StringIO()
    Console(file=stream, width=120, markup=False).print(table)
    return stream.getvalue()


def test_a_bundle_of_phantoms_says_so_in_its_title():
    assert "SYNTHETIC IMAGES" in printed(bundle_table(make_bundle(synthetic=True)))
    assert "SYNTHETIC IMAGES" not in printed(bundle_table(make_bundle()))


def test_a_strategy_that_did_not_win_says_which_did():
    study = changed(STUDY, winner="fine-tuning-3")

    assert "scratch; the study's winner is fine-tuning-3" in printed(bundle_table(make_bundle(study=study)))
    assert "scratch, the study's winner" in printed(bundle_table(make_bundle()))


def test_only_a_figure_that_refuses_is_called_worse():
    lines = printed(comparison_table(compare(make_bundle("v2", 70.0, 95.0), make_bundle()))).splitlines()

    (worse,) = [line for line in lines if "(worse)" in line]
    assert "7-class accuracy" in worse


def test_a_first_champion_stands_beside_nothing():
    assert "no champion yet" in printed(comparison_table(compare(make_bundle(), None)))


def test_a_problem_is_printed_whole():
    problem = "Expected " + "a long path/" * 30 + "end."
    text = printed(checks_table([Check("v1", None), Check("v2", problem)]))

    assert "as it was added" in text
    assert "end." in text
