"""The page of a result of `cxr benchmark robust`: goals, every setting, and every pair of unseen origins."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cxr_platform.config import RobustConfig
from cxr_platform.domain.interval import Interval
from cxr_platform.domain.study import Hardware

if TYPE_CHECKING:
    from cxr_platform.evaluation.statistics.unseen_origins import UnseenOrigins

GOAL_MEAN, GOAL_WORST, GOAL_ABOVE_CONTROL, GOAL_ACCURACY = 0.80, 0.60, 0.10, 2.0
"""What the chosen settings are aimed at: AUCs, and points of accuracy that they may cost."""
PLAIN, CHOSEN, CONTROL = "plain", "robust", "robust, control"


@dataclass(frozen=True)
class Result:
    """One setting: AUC over the pairs of unseen origins, and its difference to the plain head.

    `above_control` is the mean AUC minus that of the control, for settings that see lungs. `accuracy` of seven classes
    and `indeterminate` answers, those of a gate, are in percent; `accuracy_change` is in points, to the plain head on
    the same images.
    """

    name: str
    settings: Mapping[str, Any]
    auc: "UnseenOrigins"
    difference: Interval
    accuracy: Interval | None
    accuracy_change: Interval | None
    indeterminate: Interval | None
    above_control: Interval | None = None


def page(stated: Mapping[str, Any]) -> str:
    """Return the page of what the benchmark wrote with `--json`, in Markdown; raise `KeyError` if it lacks anything."""
    results = [_result(result) for result in stated["results"]]
    machine, versions = Hardware.model_validate_json(json.dumps(stated["hardware"])), stated["versions"]
    by_name = {result.name: result for result in results}
    plain, before = by_name[PLAIN], stated["looked_at"] - len(results)
    origins = {origin for pair, _ in plain.auc.pairs for origin in pair}
    mark = " (chosen on these pairs)" * (before > 0)
    control = ""
    if CONTROL in by_name:
        views = " + ".join(f"`{view}`" for view in by_name[CONTROL].settings["views"])
        control = f" The control is **{CHOSEN}** with {views} in place of its own views."
    choice = (
        f"The settings **{CHOSEN}** were chosen on these pairs, so that their AUCs, intervals and differences, and "
        "whether they meet a goal, are too favourable too."
        if before > 0
        else "Nothing was chosen on these pairs before."
    )
    lines = [
        f"# Heads judged at origins that they were not trained on, {stated['date']}",
        "",
        f"Measured by `cxr benchmark robust --manifest MANIFEST --profile {stated['profile']} --looked-at {before}`: "
        f"{stated['images']:,} images, {stated['contrast']} of them contrast images, {stated['input_size']} px, "
        f"manifest `{stated['manifest'][:12]}`. Linear heads on features of MobileNetV2 with ImageNet weights. "
        f"**{stated['looked_at']} settings were looked at**, so that the best of them is too good by chance. {choice}",
        "",
        "Each pair is the Covid19 of one origin against the other images of another; the head was trained without "
        "both. `Hospital by hospital` of a report is another measure: there one of the two was left out. AUC with 95 % "
        f"confidence interval by bootstrap over patients ({stated['replicates']} replicates). The {len(origins)} "
        "origins count as given: **the intervals do not include the variation between hospitals**, so that at further "
        "hospitals AUCs outside of them are to be expected. Accuracy: seven classes, cross-validation grouped by "
        "patient, with an interval over patients too. With a `gate`, images on which its heads disagree are "
        "indeterminate; these answers are not right, and not counted out.",
        "",
        "The view `lungs` is a central box: that around one outline for all images, placed by the sides of the image, "
        "not by where its lungs are. `without-lungs` is the image with that outline in grey. With the "
        f"segmenter both follow each image's own lungs, as the network of `cxr lungs` finds them.{control}",
        "",
        f"Measured with {machine}; {', '.join(f'{name} {version}' for name, version in versions.items())}.",
        "",
        f"## Goals of {CHOSEN}{mark}",
        "",
        *_goals(by_name[CHOSEN]),
        "",
        "## Settings",
        "",
        "A setting whose head cannot be fitted without some pairs has its mean and its worst over the other `pairs`; "
        "a difference of AUCs is over the pairs that both have. A head within origins knows no classes but theirs.",
        "",
        "| setting | mean AUC | worst pair | pairs | AUC against plain | accuracy (%) | "
        "accuracy against plain (points) | indeterminate (%) |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(result, mark * (result.name == CHOSEN)) for result in results),
        "",
        "## Lungs against their controls",
        "",
        "Mean AUC minus that of the control: the same settings with `without-lungs` in place of their views, "
        "and no mixed appearance.",
        "",
        "| setting | above its control |",
        "|---|---|",
        *(f"| {result.name} | {_text(result.above_control)} |" for result in results if result.above_control),
        "",
        "## Pairs",
        "",
        f"| Covid19 of | other images of | plain | robust{mark} | control |",
        "|---|---|---|---|---|",
    ]
    columns = [dict(by_name[name].auc.pairs) if name in by_name else {} for name in (PLAIN, CHOSEN, CONTROL)]
    pairs = dict.fromkeys(pair for each in columns for pair in each)
    cells = ([*pair, *(_text(each.get(pair)) for each in columns)] for pair in pairs)
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in cells), ""])


def _result(stated: Mapping[str, Any]) -> Result:
    """Return one setting as the benchmark stated it; raise `KeyError` or `TypeError` if anything is missing."""
    from cxr_platform.evaluation.statistics.unseen_origins import UnseenOrigins

    auc = stated["auc"]
    pairs = tuple(((first, second), Interval(**area)) for (first, second), area in auc["pairs"])
    first, second = auc["worst_pair"]
    areas = UnseenOrigins(Interval(**auc["mean"]), Interval(**auc["worst"]), (first, second), pairs)
    others = ("accuracy", "accuracy_change", "indeterminate", "above_control")
    figures = {name: None if stated[name] is None else Interval(**stated[name]) for name in others}
    return Result(stated["name"], stated["settings"], areas, Interval(**stated["difference"]), **figures)


def _goals(chosen: Result) -> list[str]:
    """Return a table of the goals and what was reached."""
    mean, worst = chosen.auc.mean, chosen.auc.worst
    rows = [
        (f"mean AUC of at least {GOAL_MEAN:.2f}", _text(mean), (mean.value or 0) >= GOAL_MEAN),
        (f"worst pair of at least {GOAL_WORST:.2f}", _text(worst), (worst.value or 0) >= GOAL_WORST),
    ]
    if (above := chosen.above_control) is not None:
        reached = (above.value or 0) >= GOAL_ABOVE_CONTROL
        rows.append((f"at least {GOAL_ABOVE_CONTROL:.2f} above the control", _text(above), reached))
    if (change := chosen.accuracy_change) is not None:
        goal = f"accuracy at most {GOAL_ACCURACY:.0f} points below the plain head"
        rows.append((goal, f"{_text(change)} points", change.value is not None and change.value >= -GOAL_ACCURACY))
    lines = [f"| {goal} | {figure} | {'yes' if reached else '**no**'} |" for goal, figure, reached in rows]
    return ["| goal | reached here | met |", "|---|---|---|", *lines]


def _row(result: Result, mark: str = "") -> str:
    bold = "**" * (result.name in (PLAIN, CHOSEN, CONTROL))
    worst = f"{_text(result.auc.worst)} ({' / '.join(result.auc.worst_pair)})"
    cells = [f"{bold}{result.name}{bold}{mark}", _text(result.auc.mean), worst, str(len(result.auc.pairs))]
    cells += map(_text, (result.difference, result.accuracy, result.accuracy_change, result.indeterminate))
    return f"| {' | '.join(cells)} |"


def result_line(result: Result) -> str:
    """Return one setting as a line of text."""
    accuracy = "no accuracy" if result.accuracy is None else f"accuracy {_text(result.accuracy)} %"
    worst = f"worst {_text(result.auc.worst)} ({' / '.join(result.auc.worst_pair)})"
    pairs = f"{len(result.auc.pairs)} pairs"
    return f"{result.name}: mean AUC {_text(result.auc.mean)} of {pairs}, {worst}, {accuracy}"


def _text(interval: Interval | None) -> str:
    from cxr_platform.evaluation.formatting import text  # imports scikit-learn

    return text(interval)


def changed(config: RobustConfig) -> dict[str, Any]:
    """Return the settings of `config` that are not the defaults."""
    plain = asdict(RobustConfig())
    return {key: value for key, value in asdict(config).items() if value != plain[key]}


def value_text(value: object) -> str:
    """Return the value of a setting as text, views joined by +."""
    return " + ".join(value) if isinstance(value, tuple) else str(value)
