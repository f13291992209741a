"""Tests of the heatmaps: deletion and insertion against a random order, and maps after weights are randomised."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.formatting import text
from cxr_platform.evaluation.pictures import BLUE, GREY, Picture, figure_sheet, mark, to_png
from cxr_platform.evaluation.predictions import Array
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap, study_seed
from cxr_platform.evaluation.statistics.external import interval_values
from cxr_platform.evaluation.table import Row, Table

CURVES, RANDOMISED = "faithfulness", "randomised"
MODES, ORDERS = ("deletion", "insertion"), ("heatmap", "random")
BETTER = {"deletion": -1, "insertion": 1}
"""The sign of the difference of the areas, heatmap minus random order, of a faithful map."""
REFERENCE, SHUFFLED = "another image", "head and last blocks"
HIGH_SIMILARITY = 0.5
METHOD = (
    "Deletion blurs the places of an image in the order of their heat, hottest first; insertion starts from a blurred "
    "image and adds them. The area is that under the probability of the answer. In a faithful map the deletion area is "
    "smaller, and the insertion area larger, than in a random order of the same places. The correlation is Spearman's, "
    "between the map of the trained network and that after the values of its last layers were shuffled: a map that "
    "explains what the network learned changes."
)


@dataclass(frozen=True)
class Area:
    """Areas (0 to 1) under the curves of a `mode`, by heat and in random order, and the first minus the second."""

    mode: str
    heatmap: Interval
    random: Interval
    difference: Interval

    @property
    def faithful(self) -> bool:
        """True if the heatmap is significantly better than the random order."""
        low, high = self.difference.low, self.difference.high
        return low is not None and high is not None and (high < 0 if BETTER[self.mode] < 0 else low > 0)


@dataclass(frozen=True)
class HeatmapTests:
    """`areas` by mode, `similarity` by what was randomised, and mean `curves`: (mode, order) → a probability for each
    of `shares`.
    """

    images: int
    areas: tuple[Area, ...]
    shares: tuple[float, ...]
    curves: dict[tuple[str, str], Array]
    similarity: dict[str, Interval]


def heatmap_tests(inputs: ReportInputs) -> HeatmapTests | None:
    """Return the tests of the winner's heatmaps; `None` without their evidence."""
    parts, winner = inputs.evidence.parts, inputs.results.decision.winner
    if CURVES not in parts or RANDOMISED not in parts:
        return None
    frame, randomised = (parts[name][parts[name]["strategy"] == winner] for name in (CURVES, RANDOMISED))
    if frame.empty or randomised.empty:
        return None
    table = frame.pivot_table(index="image_id", columns=["mode", "order", "share"], values="probability")
    shares = tuple(sorted(frame["share"].unique()))
    curves = {(m, o): table[m][o][list(shares)].to_numpy() for m in MODES for o in ORDERS}
    bootstrap = _bootstrap(inputs, table.index)
    steps = np.diff(shares)
    areas = {key: ((rows[:, 1:] + rows[:, :-1]) / 2) @ steps for key, rows in curves.items()}
    made = tuple(
        Area(
            mode,
            _mean(areas[mode, "heatmap"], bootstrap),
            _mean(areas[mode, "random"], bootstrap),
            _mean(areas[mode, "heatmap"] - areas[mode, "random"], bootstrap, signed=True),
        )
        for mode in MODES
    )
    means = {key: rows.mean(axis=0) for key, rows in curves.items()}
    return HeatmapTests(len(table), made, shares, means, _similarities(inputs, randomised))


def heatmap_sentences(tests: HeatmapTests) -> tuple[str, ...]:
    """Return what the tests show, in plain words."""
    deletion, insertion = tests.areas
    verdict = {
        (True, True): "they mark places that the answer depends on",
        (True, False): "they mark places that the answer depends on, though these alone do not give it",
        (False, True): "the places that they mark give the answer, though it does not depend on them alone",
        (False, False): "they are not shown to mark places that the answer depends on; do not read them as reasons",
    }[deletion.faithful, insertion.faithful]
    first = (
        f"Are the heatmaps faithful? On {tests.images:,} images {verdict}: deletion area {text(deletion.heatmap)} "
        f"by heat and {text(deletion.random)} in random order, insertion area {text(insertion.heatmap)} and "
        f"{text(insertion.random)}."
    )
    shuffled, reference = tests.similarity.get(SHUFFLED), tests.similarity.get(REFERENCE)
    if shuffled is None:  # without their learned weights the networks have empty maps
        return first, f"With the weights of the last layers shuffled, all maps are empty. {METHOD}"
    compared = f", maps of another image {text(reference)}" if reference is not None else ""
    alike = (shuffled.value or 0.0) > HIGH_SIMILARITY
    meaning = (
        "the maps show the image more than what the network learned"
        if alike
        else "the maps depend on what the network learned"
    )
    second = (
        f"With the weights of the last layers shuffled, the maps correlate with those of the trained network by "
        f"{text(shuffled)}{compared}: {meaning}."
    )
    return first, second, METHOD


def heatmap_table(tests: HeatmapTests, synthetic: bool) -> Table:
    """Return areas and similarities."""
    rows = [
        Row(
            (f"{one.mode.capitalize()}, area",),
            (one.heatmap, one.random, one.difference, "yes" if one.faithful else "no"),
        )
        for one in tests.areas
    ]
    rows += [Row((f"Correlation, {name}",), (value, None, None, "")) for name, value in tests.similarity.items()]
    columns = ("heatmap", "random order", "difference", "better than random")
    note = "Means over images with 95 % confidence intervals by bootstrap over patients."
    return Table("heatmap-tests", "Tests of the heatmaps", ("Test",), columns, tuple(rows), note, synthetic)


def heatmap_curves(tests: HeatmapTests, synthetic: bool) -> Picture:
    """Return the deletion and the insertion curve, by heat and in random order."""
    with figure_sheet(3.6, synthetic=synthetic) as figure:
        grid = figure.subplots(1, 2, sharey=True)
        for axes, mode in zip(grid, MODES, strict=True):
            for order, style, colour in (("heatmap", "o-", BLUE), ("random", "--", GREY)):
                values = tests.curves[mode, order]
                label = "by heat" if order == "heatmap" else "random order"
                axes.plot(100 * np.array(tests.shares), values, style, color=colour, markersize=4, label=label)
            axes.set(ylim=(0, 1.02), xlabel="share of the image (%)")
            axes.set_title(mode.capitalize(), fontsize=11)
            axes.spines[["top", "right"]].set_visible(False)
        grid[0].set_ylabel("probability of the answer")
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
        png = to_png(figure)
    listed = "; ".join(
        f"{one.mode} {text(one.heatmap)} by heat, {text(one.random)} in random order" for one in tests.areas
    )
    alt = f"{mark(synthetic)}Deletion and insertion curves. Areas: {listed}."
    return Picture("heatmap-tests", "Probability of the answer while places are removed or added.", alt, png)


def heatmap_values(tests: HeatmapTests) -> dict[str, object]:
    """Return plain values for results.json."""
    areas = {
        one.mode: {name: interval_values(getattr(one, name)) for name in ("heatmap", "random", "difference")}
        for one in tests.areas
    }
    similarity = {name: interval_values(value) for name, value in tests.similarity.items()}
    return {"images": tests.images, "areas": areas, "similarity": similarity}


def _similarities(inputs: ReportInputs, frame: pd.DataFrame) -> dict[str, Interval]:
    """Return the mean correlation by what was randomised, over images with a map in both cases."""
    made = {}
    for name, rows in frame.groupby("randomised", sort=False):
        rows = rows[rows["similarity"].notna()]
        if len(rows):
            made[str(name)] = _mean(rows["similarity"].to_numpy(), _bootstrap(inputs, rows["image_id"]))
    return made


def _bootstrap(inputs: ReportInputs, image_ids: Iterable[Any]) -> Bootstrap:
    group_of = dict(zip(inputs.predictions.image_id, inputs.predictions.group_id, strict=True))
    return Bootstrap(np.array([group_of[name] for name in image_ids]), seed=study_seed(inputs.study))


def _mean(values: Array, bootstrap: Bootstrap, *, signed: bool = False) -> Interval:
    means = bootstrap.replicate(lambda weights: (weights @ values) / weights.sum(axis=1))
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high), ratio=True, signed=signed)
