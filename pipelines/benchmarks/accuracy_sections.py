"""The sections of a page of benchmarks of accuracy (see `page_sections`)."""

import json
from collections.abc import Callable, Sequence
from statistics import fmean

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.formatting import count, text
from pipelines.benchmarks import markdown_table
from pipelines.benchmarks.page_sections import Claim, Result, Section

LARGEST_BIAS = 0.2
"""Points of accuracy that count as no bias."""


def _head(result: Result) -> Section:
    difference = Interval(**result["difference"])
    body = markdown_table(
        ["", "7-class accuracy (%)"],
        [
            ["logistic regression on the same features", text(result["regression"])],
            ["off-the-shelf", text(result["head"])],
            ["difference (points)", text(difference)],
        ],
    )
    size = result["input_size"]
    wanted = f"off-the-shelf at {size} px at least as accurate as a logistic regression on the same features"
    claim = Claim(wanted, f"{text(difference)} points", (difference.value or 0) >= 0)
    where = f"{result['images']:,} images, {result['folds']} folds ({result['protocol']})"
    return Section(f"The off-the-shelf head at {size} px", f"{where}.\n\n{body}", (claim,))


def _statistics(result: Result) -> Section:
    percent = "{:.2f}".format
    signs = [[f"{row['within']:g}", percent(row["images"]), percent(row["patients"])] for row in result["sign_test"]]
    equal = [
        [f"{row['within']:g}", *(percent(row[name]) for name in ("winner_only", "all_pairs", "coverage"))]
        for row in result["equal_strategies"]
    ]
    picked = [
        [f"{row['spread']:g}", f"{row['measured']:+.2f}", f"{row['corrected']:+.2f}", percent(row["coverage"])]
        for row in result["picked"]
    ]
    strategies, share = result["strategies"], "share within patients"
    body = (
        f"{result['studies']:,} simulated studies per line, each of {result['patients']} patients with "
        f"{result['images']} images and {result['replicates']} bootstrap replicates.\n\n"
        "Sign test, two equal strategies: share of p below 0.05 (%).\n\n"
        f"{markdown_table([share, 'each image by itself', 'images of a patient together'], signs)}\n\n"
        f"{strategies} equal strategies: studies with a wrong statement about the winner (%).\n\n"
        + markdown_table([share, "pairs with the winner only", "all pairs, as reported", "all intervals hold"], equal)
        + f"\n\nAccuracy of the best of {strategies} minus its true accuracy (points).\n\n"
        + markdown_table(["best minus worst", "measured", "corrected, as reported", "its interval holds (%)"], picked)
    )
    claims = [
        _within(
            "family-wise error with equal strategies", [row["all_pairs"] for row in result["equal_strategies"]], 3, 6
        ),
        _within("error of the sign test over patients", [row["patients"] for row in result["sign_test"]], 4, 6),
    ]
    bias = max((row["corrected"] for row in result["picked"]), key=abs)
    wanted = f"corrected accuracy of the best unbiased within {LARGEST_BIAS:g} points"
    claims.append(Claim(wanted, f"{bias:+.2f} points", abs(bias) <= LARGEST_BIAS))
    return Section("How often statements about strategies are wrong", body, tuple(claims))


def _within(what: str, values: Sequence[float], low: float, high: float) -> Claim:
    """Return the claim that all `values`, in percent, lie between two bounds."""
    figure = f"{min(values):.2f} to {max(values):.2f}%"
    return Claim(f"{what} {low:g} to {high:g}%", figure, low <= min(values) and max(values) <= high)


def _recipe(result: Result) -> Section:
    seeds, images = result["seeds"], result["images"]
    rows = []
    for one in result["compared"]:
        attempts = [attempt for attempt in result["attempts"] if attempt["settings"] == one["settings"]]
        rows.append(
            [
                json.dumps(one["settings"]) if one["settings"] else f"those of {result['profile']}",
                text(Interval(**one["accuracy"])),
                text(Interval(**one["difference"])) if one["settings"] else "",
                f"{fmean(attempt['training_accuracy'] for attempt in attempts):.3f}",
                f"{fmean(attempt['training_loss'] for attempt in attempts):.3f}",
                f"{fmean(attempt['processor_seconds'] for attempt in attempts):.0f}",
            ]
        )
    heading = ["settings", "accuracy (%)", "difference (points)", "accuracy in training", "loss", "processor (s)"]
    body = (
        f"{images['trained']:,} images trained on and {images['predicted']:,} predicted, all outside fold 0; "
        f"{result['input_size']} px where the settings do not say otherwise; means over "
        f"{count(len(seeds), 'seed', 'seeds')}. Intervals are over the predicted groups, not over seeds. Accuracy and "
        "loss in training are those of the last epoch, on augmented images.\n\n" + markdown_table(heading, rows)
    )
    return Section(f"Settings of the training from scratch on {images['trained']:,} images", body, ())


SECTIONS: dict[str, Callable[[Result], Section]] = {
    "head": _head,
    "statistics": _statistics,
    "recipe": _recipe,
}
