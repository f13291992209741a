"""Compare what may keep a classifier from resting on the origin of an image, at origins that it was not trained on.

Heads on features of the frozen ImageNet backbone, with one option of `[robust]` on at a time, and the chosen settings
with one of them off at a time. Nothing is chosen on images of an origin that is scored.
"""

import argparse
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_platform.config import Profile, RobustConfig, View, load_profile
from cxr_platform.domain.interval import Interval
from cxr_platform.training.devices import hardware, package_versions
from pipelines.benchmarks import write_result
from pipelines.options import add_weights_option

if TYPE_CHECKING:
    from cxr_platform.evaluation.predictions import Array
    from cxr_platform.evaluation.statistics.unseen_origins import UnseenOrigins
    from cxr_platform.evidence.robust_ablation import AblationData
    from cxr_platform.manifest.store import Manifest

REPLICATES = 500
GOAL_MEAN, GOAL_WORST, GOAL_ABOVE_CONTROL, GOAL_ACCURACY = 0.80, 0.60, 0.10, 2.0
"""What the chosen settings are aimed at: AUCs, and points of accuracy that they may cost."""
PLAIN, CHOSEN, CONTROL = "plain", "robust", "robust, control"


@dataclass(frozen=True)
class RobustRequest:
    """Manifest, profile with the chosen `[robust]`, weights, folder of what is kept, and the files of the result."""

    manifest: Path
    profile: str
    imagenet_weights: Path | None
    cache: Path | None
    looked_at: int
    json: Path | None
    page: Path | None


@dataclass(frozen=True)
class Result:
    """One setting: AUC over the pairs of unseen origins, its difference to the plain head, and accuracy (percent)."""

    name: str
    settings: Mapping[str, Any]
    auc: "UnseenOrigins"
    difference: Interval
    accuracy: float | None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `cxr benchmark robust`."""
    parser.add_argument("--manifest", type=Path, required=True, help="folder of a manifest with several origins")
    parser.add_argument("--profile", default="robust", help="name or path of a profile (default: robust)")
    parser.add_argument(
        "--cache", type=Path, metavar="FOLDER", help="keep features and scores there, to continue after a stop"
    )
    parser.add_argument(
        "--looked-at", type=int, default=0, metavar="N", help="settings that were tried before, for the count of all"
    )
    add_weights_option(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result with hardware and versions")
    parser.add_argument("--page", type=Path, metavar="FILE", help="also write the result as a page in Markdown")


def run(request: RobustRequest) -> int:
    """Print a line for each setting; return 0."""
    from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
    from cxr_platform.evaluation.statistics.unseen_origins import mean_difference, unseen_origins
    from cxr_platform.evidence.robust_ablation import out_of_fold_accuracy, unseen_scores
    from cxr_platform.manifest.store import open_manifest

    manifest = open_manifest(request.manifest)
    profile = load_profile(request.profile, {"folds": manifest.info.folds})
    settings = settings_to_compare(profile.robust)
    data = load_ablation_data(manifest, profile, request, views_of(settings.values()))
    bootstrap = Bootstrap(data.groups, REPLICATES, profile.seed)
    results, scores = [], {}
    for name, config in settings.items():  # the plain head first: the others are compared with it
        scores[name] = scored = unseen_scores(data, config, profile.seed)
        accuracy = out_of_fold_accuracy(data, config, profile.seed)
        results.append(
            Result(
                name,
                _changed(config),
                unseen_origins(scored, bootstrap),
                mean_difference(scored, scores[PLAIN], bootstrap),
                None if accuracy is None else 100 * accuracy,
            )
        )
        print(_line(results[-1]), flush=True)
    above = mean_difference(scores[CHOSEN], scores[CONTROL], bootstrap) if CONTROL in scores else None
    stated = {
        "date": date.today().isoformat(),
        "profile": profile.name,
        "manifest": manifest.content_hash,
        "input_size": profile.model.input_size,
        "images": len(data.labels),
        "contrast": int((data.labels < 0).sum()),
        "replicates": REPLICATES,
        "looked_at": request.looked_at + len(results),
        "above_control": above and asdict(above),
        "results": [asdict(result) for result in results],
    }
    if request.json is not None:
        write_result(request.json, "robust", stated)
    if request.page is not None:
        request.page.write_text(page(stated, results, above), encoding="utf-8")
    return 0


def settings_to_compare(chosen: RobustConfig) -> dict[str, RobustConfig]:
    """Return the plain head, each option alone, the `chosen` settings, their control, and each chosen option left out.

    The control of lungs is a view of everything but the lungs.
    """
    plain = RobustConfig()
    alone: dict[str, dict[str, Any]] = {
        "lungs, equalised": {"views": ("lungs",)},
        "control: without lungs": {"views": ("without-lungs",)},
        "whole image and lungs": {"views": ("whole", "lungs")},
        "Covid19 against Normal": {"against": "normal"},
        "contrast images": {"contrast": True},
        "classes balanced": {"balanced": "class"},
        "classes and origins balanced": {"balanced": "class-origin"},
        "mixed appearance of lungs": {"views": ("lungs",), "appearance": "mixed"},
        "penalty on origins": {"origin_penalty": 3.0},
        "CORAL": {"coral": 0.1},
        "GroupDRO": {"group_dro": True},
        "last layer on a balanced set (DFR)": {"last_layer": "balanced"},
        "last layer within origins": {"last_layer": "within", "contrast": True},
        "gate": {"gate": True, "contrast": True},
        "more shrinkage": {"shrinkage": 1.0},
    }
    settings = {PLAIN: plain, **{name: replace(plain, **changes) for name, changes in alone.items()}}
    settings[CHOSEN] = chosen
    if "lungs" in chosen.views:
        hidden: tuple[View, ...] = tuple("without-lungs" if view == "lungs" else view for view in chosen.views)
        settings[CONTROL] = replace(chosen, views=hidden)
    for key, value in _changed(chosen).items():
        if key != "margin" and value != getattr(plain, key):
            settings[f"robust without {key} = {_shown(value)}"] = replace(chosen, **{key: getattr(plain, key)})
    return settings


def views_of(settings: Iterable[RobustConfig]) -> tuple[View, ...]:
    """Return the views whose features `settings` need, in the order of first use."""
    from cxr_platform.evidence.lung_views import views_needed

    return tuple(dict.fromkeys(view for one in settings for view in views_needed(one.views, one.appearance)))


def load_ablation_data(
    manifest: "Manifest", profile: Profile, request: RobustRequest, views: Sequence[View]
) -> "AblationData":
    """Return the study's and the contrast images of `manifest` with the features of `views`."""
    from cxr_platform.evidence.robust_ablation import AblationData
    from cxr_platform.labels import class_index
    from cxr_platform.training.robust_head import CONTRAST

    table = manifest.table(["role", "label", "source", "group_id", "fold_grouped", "width", "height"]).to_pandas()
    used = table["role"].isin(["study", "contrast"]).to_numpy()
    table = table[used].reset_index(drop=True)
    study = (table["role"] == "study").to_numpy()
    labels = [
        class_index(label) if in_study else CONTRAST for label, in_study in zip(table["label"], study, strict=True)
    ]
    origins = np.array([manifest.info.origins.get(source, source) for source in table["source"]])
    sides = table["width"].to_numpy(), table["height"].to_numpy()
    if request.cache is not None:
        request.cache.mkdir(parents=True, exist_ok=True)
    features = _features(manifest, profile, request, views, used, origins, *sides)
    groups, folds = table["group_id"].to_numpy(str), table["fold_grouped"].to_numpy().astype(int)
    return AblationData(np.array(labels), origins, groups, folds, features, request.cache)


def _features(
    manifest: "Manifest",
    profile: Profile,
    request: RobustRequest,
    views: Sequence[View],
    used: "Array",
    origins: "Array",
    widths: "Array",
    heights: "Array",
) -> dict[View, "Array"]:
    """Return the features of each view, by ONNX Runtime, which takes a third of the time of Keras on a processor."""
    from cxr_platform.evidence.lung_views import image_views
    from cxr_platform.explain.lung_field import lung_fields

    size, stored, folder = profile.model.input_size, {}, request.cache
    names = {view: f"{view}-{size}-{manifest.content_hash[:12]}.npy" for view in views}
    if folder is not None:
        stored = {view: np.load(folder / name) for view, name in names.items() if (folder / name).exists()}
    if len(stored) == len(views):
        return stored
    pixels = manifest.pixels()[used]
    masks = lung_fields(widths, heights, pixels.shape[1])
    shown = (
        (view, image_views(view, pixels, masks, widths, heights, origins, size, profile.seed))
        for view in views
        if view not in stored
    )
    for view, features in _computed(shown, profile, request.imagenet_weights):
        stored[view] = features
        if folder is not None:
            np.save(folder / names[view], features)
    return stored


def _computed(
    images: Iterator[tuple[View, "Array"]], profile: Profile, weights: Path | None
) -> Iterator[tuple[View, "Array"]]:
    from cxr_platform.champion.export import onnx_answers
    from cxr_platform.champion.onnx_graph import network_graph
    from cxr_platform.domain.strategies import strategy_by_name
    from cxr_platform.models.initial_weights import set_initial_weights
    from cxr_platform.models.mobilenet import build_network
    from cxr_platform.models.weights import find_weights, load_backbone_weights

    alpha = profile.model.alpha
    network = build_network(strategy_by_name("off-the-shelf"), profile.model)
    set_initial_weights(network, 0, load_backbone_weights(find_weights(alpha, weights), alpha))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "backbone.onnx"
        file.write_bytes(network_graph(network.full).SerializeToString())
        for view, shown in images:
            print(f"Features of {len(shown)} images, {view}", flush=True)
            yield view, onnx_answers(file, shown)[1]


def page(stated: Mapping[str, Any], results: Sequence[Result], above_control: Interval | None) -> str:
    """Return the result as a page in Markdown.

    `above_control` is the mean AUC of the chosen settings minus that of their control.
    """
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    by_name = {result.name: result for result in results}
    lines = [
        f"# Heads judged at origins that they were not trained on, {stated['date']}",
        "",
        f"Written by `cxr benchmark robust --manifest MANIFEST --profile {stated['profile']} --looked-at "
        f"{stated['looked_at'] - len(results)}`: {stated['images']:,} images, "
        f"{stated['contrast']} of them contrast images, {stated['input_size']} px, manifest "
        f"`{stated['manifest'][:12]}`. Linear heads on features of MobileNetV2 with ImageNet weights. "
        f"**{stated['looked_at']} settings were looked at**, so that the best of them is too good by chance.",
        "",
        "Each pair is the Covid19 of one origin against the other images of another; the head was trained without "
        "both. AUC with 95 % confidence interval by bootstrap over patients "
        f"({stated['replicates']} replicates). Accuracy: seven classes, cross-validation grouped by patient.",
        "",
        f"Measured with {hardware()}; {versions}.",
        "",
        "## Goals of the chosen settings",
        "",
        *_goals(by_name[PLAIN], by_name[CHOSEN], above_control),
        "",
        "## Settings",
        "",
        "| setting | mean AUC | worst pair | against plain | accuracy (%) |",
        "|---|---|---|---|---|",
        *(_row(result) for result in results),
        "",
        "## Pairs",
        "",
        "| Covid19 of | other images of | plain | robust | control |",
        "|---|---|---|---|---|",
    ]
    shown = [dict(by_name[name].auc.pairs) for name in (PLAIN, CHOSEN, CONTROL) if name in by_name]
    for pair, _ in by_name[PLAIN].auc.pairs:
        cells = [_interval(each[pair]) if pair in each else "–" for each in shown]
        lines.append(f"| {pair[0]} | {pair[1]} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _goals(plain: Result, chosen: Result, above_control: Interval | None) -> list[str]:
    """Return a table of the goals and what was reached."""
    mean, worst = chosen.auc.mean, chosen.auc.worst
    rows = [
        (f"mean AUC of at least {GOAL_MEAN:.2f}", _interval(mean), (mean.value or 0) >= GOAL_MEAN),
        (f"worst pair of at least {GOAL_WORST:.2f}", _interval(worst), (worst.value or 0) >= GOAL_WORST),
    ]
    if above_control is not None:
        reached = (above_control.value or 0) >= GOAL_ABOVE_CONTROL
        rows.append((f"at least {GOAL_ABOVE_CONTROL:.2f} above the control", _interval(above_control), reached))
    if plain.accuracy is not None and chosen.accuracy is not None:
        change = chosen.accuracy - plain.accuracy
        goal = f"accuracy at most {GOAL_ACCURACY:.0f} points below the plain head"
        rows.append((goal, f"{change:+.1f} points", change >= -GOAL_ACCURACY))
    lines = [f"| {goal} | {figure} | {'yes' if reached else '**no**'} |" for goal, figure, reached in rows]
    return ["| goal | reached here | met |", "|---|---|---|", *lines]


def _row(result: Result) -> str:
    bold = "**" * (result.name in (PLAIN, CHOSEN, CONTROL))
    worst = f"{_interval(result.auc.worst)} ({' / '.join(result.auc.worst_pair)})"
    accuracy = "–" if result.accuracy is None else f"{result.accuracy:.1f}"
    cells = (f"{bold}{result.name}{bold}", _interval(result.auc.mean), worst, _interval(result.difference), accuracy)
    return f"| {' | '.join(cells)} |"


def _line(result: Result) -> str:
    accuracy = "no accuracy" if result.accuracy is None else f"accuracy {result.accuracy:.1f} %"
    worst = f"worst {_interval(result.auc.worst)} ({' / '.join(result.auc.worst_pair)})"
    return f"{result.name}: mean AUC {_interval(result.auc.mean)}, {worst}, {accuracy}"


def _interval(interval: Interval) -> str:
    sign = "+" if interval.signed else ""
    if interval.value is None:
        return "–"
    if interval.low is None or interval.high is None:
        return f"{interval.value:{sign}.3f}"
    return f"{interval.value:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def _changed(config: RobustConfig) -> dict[str, Any]:
    """Return the settings of `config` that are not the defaults."""
    plain = asdict(RobustConfig())
    return {key: value for key, value in asdict(config).items() if value != plain[key]}


def _shown(value: object) -> str:
    return " + ".join(value) if isinstance(value, tuple) else str(value)
