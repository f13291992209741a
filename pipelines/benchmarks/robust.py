"""Compare what may keep a classifier from resting on the origin of an image, at origins that it was not trained on.

Heads on features of the frozen ImageNet backbone, with one option of `[robust]` on at a time, and the chosen settings
with one of them off at a time. A head is trained without the origins that it is scored at. The settings of the profile
`robust`, though, were chosen on the pairs of the developers' collections: there their AUCs and intervals are too
favourable.
"""

import argparse
import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_platform.config import Profile, RobustConfig, load_profile
from cxr_platform.domain.interval import Interval
from cxr_platform.domain.study import Hardware
from cxr_platform.errors import ConfigError
from cxr_platform.storage.files import make_folder, write_atomically, write_errors
from cxr_platform.training.devices import hardware, package_versions
from pipelines.benchmarks import write_result
from pipelines.options import add_weights_option

if TYPE_CHECKING:
    from cxr_platform.evaluation.predictions import Array
    from cxr_platform.evaluation.statistics.unseen_origins import UnseenOrigins
    from cxr_platform.evidence.robust_ablation import AblationData
    from cxr_platform.intake.lung_views import ShownView
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
        "--looked-at",
        type=int,
        default=0,
        metavar="N",
        help="settings that were tried on these images before, for the count of all; above 0, the page says that those "
        "of the profile were chosen on these pairs (default: 0)",
    )
    add_weights_option(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result with hardware and versions")
    parser.add_argument("--page", type=Path, metavar="FILE", help="also write the result as a page in Markdown")


def run(request: RobustRequest) -> int:
    """Print a line for each setting; return 0.

    Raise `StorageError` or `ConfigError` for files that cannot be written, before anything is computed.
    """
    from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
    from cxr_platform.evaluation.statistics.unseen_origins import mean_difference, unseen_origins
    from cxr_platform.evidence.robust_ablation import out_of_fold_accuracy, unseen_scores
    from cxr_platform.manifest.store import open_manifest

    for file in (request.json, request.page):
        _check_file(file)
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
        write_atomically(request.page, page(stated, results, above, hardware(), package_versions()).encode())
    return 0


def _check_file(file: Path | None) -> None:
    """Make the folder of a file of results; raise an error if the file could not be written."""
    if file is None:
        return
    with write_errors(file):
        make_folder(file.parent)
    if file.is_dir():
        raise ConfigError(f"Expected a file at {file}.", received="a folder", advice="Give the name of a file.")


def settings_to_compare(chosen: RobustConfig) -> dict[str, RobustConfig]:
    """Return the plain head, each option alone, the `chosen` settings, their control, and each chosen option left out.

    The control of lungs sees everything but the lungs, with the other settings of `chosen`.
    """
    plain = RobustConfig()
    alone: dict[str, dict[str, Any]] = {
        "central box, equalised": {"views": ("lungs",)},
        "control: without the outline": {"views": ("without-lungs",)},
        "whole image and central box": {"views": ("whole", "lungs")},
        "Covid19 against Normal": {"against": "normal"},
        "contrast images": {"contrast": True},
        "classes balanced": {"balanced": "class"},
        "classes and origins balanced": {"balanced": "class-origin"},
        "central box, mixed appearance": {"views": ("lungs",), "appearance": "mixed"},
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
        settings[CONTROL] = replace(chosen, views=("without-lungs",), appearance="none")
    needing: dict[str, dict[str, Any]] = {"against": {"margin": 0.0}, "views": {"appearance": "none"}}
    for key, value in _changed(chosen).items():
        if key != "margin":
            without = replace(chosen, **{key: getattr(plain, key)}, **needing.get(key, {}))
            settings[f"robust without {key} = {_shown(value)}"] = without
    return settings


def views_of(settings: Iterable[RobustConfig]) -> tuple["ShownView", ...]:
    """Return the views whose features `settings` need, in the order of first use."""
    from cxr_platform.intake.lung_views import views_needed

    return tuple(dict.fromkeys(view for one in settings for view in views_needed(one.views, one.appearance)))


def load_ablation_data(
    manifest: "Manifest", profile: Profile, request: RobustRequest, views: Sequence["ShownView"]
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
    views: Sequence["ShownView"],
    used: "Array",
    origins: "Array",
    widths: "Array",
    heights: "Array",
) -> dict["ShownView", "Array"]:
    """Return the features of each view, by ONNX Runtime, which takes a third of the time of Keras on a processor."""
    from cxr_platform.evidence.robust_ablation import array_bytes
    from cxr_platform.intake.lung_field import lung_fields
    from cxr_platform.intake.lung_views import image_views
    from cxr_platform.models.weights import find_weights, sha256_of

    size, stored, folder = profile.model.input_size, {}, request.cache
    weights = find_weights(profile.model.alpha, request.imagenet_weights)
    names = {view: feature_file(view, profile, manifest.content_hash, sha256_of(weights), origins) for view in views}
    if folder is not None:
        stored = {view: np.load(folder / name) for view, name in names.items() if (folder / name).exists()}
    if len(stored) == len(views):
        return stored
    pixels = manifest.pixels()[used]
    masks = lung_fields(widths, heights, pixels.shape[1])
    shown = (
        (view, image_views(view, pixels, masks, widths, heights, origins, size=size, seed=profile.seed))
        for view in views
        if view not in stored
    )
    for view, features in _computed(shown, profile, weights):
        stored[view] = features
        if folder is not None:
            write_atomically(folder / names[view], array_bytes(features))
    return stored


def feature_file(view: "ShownView", profile: Profile, manifest: str, imagenet: str, origins: "Array") -> str:
    """Return the name of the file of a view's features: another one for everything that they depend on.

    `manifest` is the content hash, `imagenet` the SHA-256 of the weights; the looks of `mixed-lungs` depend also on the
    seed and on the origins.
    """
    parts = [view, str(profile.model.input_size), f"alpha{profile.model.alpha}", manifest[:12], imagenet[:8]]
    if view == "mixed-lungs":
        looks = repr((profile.seed, [str(origin) for origin in origins]))
        parts.append(hashlib.sha256(looks.encode()).hexdigest()[:8])
    return f"{'-'.join(parts)}.npy"


def _computed(
    images: Iterator[tuple["ShownView", "Array"]], profile: Profile, weights: Path
) -> Iterator[tuple["ShownView", "Array"]]:
    from cxr_platform.champion.export import onnx_answers
    from cxr_platform.champion.onnx_graph import network_graph
    from cxr_platform.domain.strategies import strategy_by_name
    from cxr_platform.models.initial_weights import set_initial_weights
    from cxr_platform.models.mobilenet import build_network
    from cxr_platform.models.weights import load_backbone_weights

    alpha = profile.model.alpha
    network = build_network(strategy_by_name("off-the-shelf"), profile.model)
    set_initial_weights(network, 0, load_backbone_weights(weights, alpha))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "backbone.onnx"
        file.write_bytes(network_graph(network.full).SerializeToString())
        for view, shown in images:
            print(f"Features of {len(shown)} images, {view}", flush=True)
            yield view, onnx_answers(file, shown)[1]


def page(
    stated: Mapping[str, Any],
    results: Sequence[Result],
    above_control: Interval | None,
    machine: Hardware,
    versions: Mapping[str, str],
) -> str:
    """Return the result as a page in Markdown.

    `above_control` is the mean AUC of the chosen settings minus that of their control.
    """
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
        f"Written by `cxr benchmark robust --manifest MANIFEST --profile {stated['profile']} --looked-at {before}`: "
        f"{stated['images']:,} images, {stated['contrast']} of them contrast images, {stated['input_size']} px, "
        f"manifest `{stated['manifest'][:12]}`. Linear heads on features of MobileNetV2 with ImageNet weights. "
        f"**{stated['looked_at']} settings were looked at**, so that the best of them is too good by chance. {choice}",
        "",
        "Each pair is the Covid19 of one origin against the other images of another; the head was trained without "
        "both. `Hospital by hospital` of a report is another measure: there one of the two was left out. AUC with 95 % "
        f"confidence interval by bootstrap over patients ({stated['replicates']} replicates). The {len(origins)} "
        "origins count as given: **the intervals do not include the variation between hospitals**, so that at further "
        "hospitals AUCs outside of them are to be expected. Accuracy: seven classes, cross-validation grouped by "
        "patient.",
        "",
        "The view `lungs` is a central box: that around one outline for all images, placed by the sides of the image, "
        f"not by where its lungs are. `without-lungs` is the image with that outline in grey.{control}",
        "",
        f"Measured with {machine}; {', '.join(f'{name} {version}' for name, version in versions.items())}.",
        "",
        f"## Goals of {CHOSEN}{mark}",
        "",
        *_goals(plain, by_name[CHOSEN], above_control),
        "",
        "## Settings",
        "",
        "A setting whose head cannot be fitted without some pairs has its mean and its worst over the other `pairs`; "
        "`against plain` is over the pairs that both have.",
        "",
        "| setting | mean AUC | worst pair | pairs | against plain | accuracy (%) |",
        "|---|---|---|---|---|---|",
        *(_row(result, mark * (result.name == CHOSEN)) for result in results),
        "",
        "## Pairs",
        "",
        f"| Covid19 of | other images of | plain | robust{mark} | control |",
        "|---|---|---|---|---|",
    ]
    shown = [dict(by_name[name].auc.pairs) if name in by_name else {} for name in (PLAIN, CHOSEN, CONTROL)]
    pairs = dict.fromkeys(pair for each in shown for pair in each)
    cells = ([*pair, *(_text(each.get(pair)) for each in shown)] for pair in pairs)
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in cells), ""])


def _goals(plain: Result, chosen: Result, above_control: Interval | None) -> list[str]:
    """Return a table of the goals and what was reached."""
    mean, worst = chosen.auc.mean, chosen.auc.worst
    rows = [
        (f"mean AUC of at least {GOAL_MEAN:.2f}", _text(mean), (mean.value or 0) >= GOAL_MEAN),
        (f"worst pair of at least {GOAL_WORST:.2f}", _text(worst), (worst.value or 0) >= GOAL_WORST),
    ]
    if above_control is not None:
        reached = (above_control.value or 0) >= GOAL_ABOVE_CONTROL
        rows.append((f"at least {GOAL_ABOVE_CONTROL:.2f} above the control", _text(above_control), reached))
    if plain.accuracy is not None and chosen.accuracy is not None:
        change = chosen.accuracy - plain.accuracy
        goal = f"accuracy at most {GOAL_ACCURACY:.0f} points below the plain head"
        rows.append((goal, f"{change:+.1f} points", change >= -GOAL_ACCURACY))
    lines = [f"| {goal} | {figure} | {'yes' if reached else '**no**'} |" for goal, figure, reached in rows]
    return ["| goal | reached here | met |", "|---|---|---|", *lines]


def _row(result: Result, mark: str = "") -> str:
    bold = "**" * (result.name in (PLAIN, CHOSEN, CONTROL))
    looks = " (with the looks of images of the tested origins, unlabelled)" * ("appearance" in result.settings)
    worst = f"{_text(result.auc.worst)} ({' / '.join(result.auc.worst_pair)})"
    accuracy = "–" if result.accuracy is None else f"{result.accuracy:.1f}"
    name, pairs = f"{bold}{result.name}{bold}{mark}{looks}", str(len(result.auc.pairs))
    return f"| {' | '.join([name, _text(result.auc.mean), worst, pairs, _text(result.difference), accuracy])} |"


def _line(result: Result) -> str:
    accuracy = "no accuracy" if result.accuracy is None else f"accuracy {result.accuracy:.1f} %"
    worst = f"worst {_text(result.auc.worst)} ({' / '.join(result.auc.worst_pair)})"
    pairs = f"{len(result.auc.pairs)} pairs"
    return f"{result.name}: mean AUC {_text(result.auc.mean)} of {pairs}, {worst}, {accuracy}"


def _text(interval: Interval | None) -> str:
    from cxr_platform.evaluation.formatting import text  # imports scikit-learn

    return text(interval)


def _changed(config: RobustConfig) -> dict[str, Any]:
    """Return the settings of `config` that are not the defaults."""
    plain = asdict(RobustConfig())
    return {key: value for key, value in asdict(config).items() if value != plain[key]}


def _shown(value: object) -> str:
    return " + ".join(value) if isinstance(value, tuple) else str(value)
