from dataclasses import asdict
from typing import Any

import pytest

from cxr_platform.domain.interval import Interval
from pipelines.benchmarks import robust_page

SETTINGS = {
    "plain": {},
    "gate": {"gate": True},
    "central box, mixed appearance": {"views": ["lungs"], "appearance": "mixed"},
    "robust": {"views": ["whole", "lungs"]},
    "robust, control": {"views": ["without-lungs"]},
}


def stated(mean: float = 0.7, worst: float = 0.5, change: float = -1.0, above: float = 0.05, before: int = 7) -> Any:
    """What the benchmark writes: the same figures for each setting."""

    def ratio(value: float, signed: bool = False) -> dict[str, Any]:
        return asdict(Interval(value, value - 0.1, value + 0.1, ratio=True, signed=signed))

    auc = {"mean": ratio(mean), "worst": ratio(worst), "worst_pair": ["a", "b"], "pairs": [[["a", "b"], ratio(worst)]]}
    results = [
        {
            "name": name,
            "settings": settings,
            "auc": auc,
            "difference": ratio(0.0, signed=True),
            "accuracy": asdict(Interval(80.0, 79.0, 81.0)),
            "accuracy_change": asdict(Interval(change, change - 1, change + 1, signed=True)),
            "indeterminate": asdict(Interval(1.5, 1.0, 2.0)) if name == "gate" else None,
            "above_control": ratio(above, signed=True) if "lungs" in settings.get("views", ()) else None,
        }
        for name, settings in SETTINGS.items()
    ]
    machine = {"processor": "Chip", "processors": 2, "gpus": [], "machine": "x86_64", "system": "Linux"}
    return {
        **{"date": "2026-11-28", "profile": "robust", "manifest": "0123456789abcdef", "input_size": 96},
        **{"images": 1200, "contrast": 20, "replicates": 500, "looked_at": before + len(results)},
        **{"hardware": machine, "versions": {"keras": "3"}, "results": results},
    }


def rows(page: str, heading: str) -> dict[str, list[str]]:
    """The rows of the table under a heading, by their first cell."""
    table = page.partition(f"\n## {heading}")[2].partition("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return {first: rest for first, *rest in cells[1:]}


def test_every_setting_is_a_row_with_intervals() -> None:
    page = robust_page.page(stated())
    settings = rows(page, "Settings")
    assert list(settings) == [
        *("**plain**", "gate", "central box, mixed appearance"),
        *("**robust** (chosen on these pairs)", "**robust, control**"),
    ]
    assert settings["gate"] == [
        *("0.700 (0.600 to 0.800)", "0.500 (0.400 to 0.600) (a / b)", "1", "0.000 (−0.100 to +0.100)"),
        *("80.00 (79.00 to 81.00)", "−1.00 (−2.00 to 0.00)", "1.50 (1.00 to 2.00)"),
    ]
    assert settings["**plain**"][-1] == "–"
    above = rows(page, "Lungs against their controls")
    assert list(above) == ["central box, mixed appearance", "robust"]
    assert above["robust"] == ["+0.050 (−0.050 to +0.150)"]
    assert rows(page, "Pairs")["a"][1] == "0.500 (0.400 to 0.600)"


def test_the_page_states_how_many_settings_were_looked_at_and_what_was_chosen_on_the_pairs() -> None:
    page = robust_page.page(stated())
    assert "--looked-at 7`: 1,200 images, 20 of them contrast images, 96 px, manifest `0123456789ab`" in page
    assert "**12 settings were looked at**" in page
    assert "The settings **robust** were chosen on these pairs" in page
    assert "**the intervals do not include the variation between hospitals**" in page
    assert "The 2 origins count as given" in page
    assert "The control is **robust** with `without-lungs` in place of its own views." in page
    assert "Nothing was chosen on these pairs before." in robust_page.page(stated(before=0))


@pytest.mark.parametrize(("figures", "met"), [((0.81, 0.61, -1.5, 0.11), 4), ((0.79, 0.59, -2.5, 0.09), 0)])
def test_goals_are_met_or_not(figures: tuple[float, float, float, float], met: int) -> None:
    goals = rows(robust_page.page(stated(*figures)), "Goals of robust")
    assert [cells[-1] for cells in goals.values()].count("yes") == met
    assert [cells[-1] for cells in goals.values()].count("**no**") == 4 - met
    shown = goals["accuracy at most 2 points below the plain head"][0]
    assert shown.startswith(f"−{-figures[2]:.2f} (")
    assert shown.endswith(") points")


def test_a_result_that_lacks_a_figure_is_refused() -> None:
    incomplete = stated()
    del incomplete["results"][0]["accuracy_change"]
    with pytest.raises(KeyError, match="accuracy_change"):
        robust_page.page(incomplete)
