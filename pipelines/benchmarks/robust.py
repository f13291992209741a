"""Compare what may keep a classifier from resting on the origin of an image, at origins that it was not trained on.

Heads on features of the frozen ImageNet backbone, with one option of `[robust]` on at a time, and the chosen settings
with one of them off at a time. A head is trained without the origins that it is scored at. The settings of the profile
`robust`, though, were chosen on the pairs of the developers' collections: there their AUCs and intervals are too
favourable.
"""

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_platform.config import RobustConfig, load_profile
from cxr_platform.domain.interval import Interval
from cxr_platform.errors import ConfigError
from cxr_platform.storage.files import make_folder, write_errors
from pipelines.benchmarks import write_result
from pipelines.benchmarks.robust_features import FeatureSource, Lungs, Setting, load_ablation_data, views_of
from pipelines.benchmarks.robust_page import CHOSEN, CONTROL, PLAIN, Result, changed, result_line, value_text
from pipelines.options import add_weights_option

if TYPE_CHECKING:
    from cxr_platform.evaluation.predictions import Array
    from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
    from cxr_platform.evidence.robust_ablation import OutOfFold

REPLICATES = 500
STRONG_SHRINKAGE = 10.0
"""A hundred times the default."""


@dataclass(frozen=True)
class RobustRequest:
    """Manifest, profile with the chosen `[robust]`, weights, folder of what is kept, and the file of the result."""

    manifest: Path
    profile: str
    imagenet_weights: Path | None
    cache: Path | None
    looked_at: int
    json: Path | None


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


def run(request: RobustRequest) -> int:
    """Print a line for each setting; return 0.

    Raise `StorageError` or `ConfigError` for a file that cannot be written, before anything is computed.
    """
    from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
    from cxr_platform.evaluation.statistics.unseen_origins import mean_difference, unseen_origins
    from cxr_platform.evidence.robust_ablation import out_of_fold_answers, unseen_scores
    from cxr_platform.manifest.store import open_manifest

    _check_file(request.json)
    manifest = open_manifest(request.manifest)
    profile = load_profile(request.profile, {"folds": manifest.info.folds})
    settings = settings_to_compare(profile.robust)
    source = FeatureSource(manifest, profile, request.imagenet_weights, request.cache)
    data = load_ablation_data(source, views_of(settings.values()))
    labels = data["outline"].labels
    bootstrap, in_study = Bootstrap(data["outline"].groups, REPLICATES, profile.seed), labels >= 0
    results, scores, answers = [], {}, {}
    for name, setting in settings.items():  # the plain head first: the others are compared with it
        of_setting = data[setting.lungs], setting.config, profile.seed
        scores[name], answers[name] = unseen_scores(*of_setting), out_of_fold_answers(*of_setting)
        results.append(
            Result(
                name,
                changed(setting.config),
                unseen_origins(scores[name], bootstrap),
                mean_difference(scores[name], scores[PLAIN], bootstrap),
                *accuracy_figures(answers[name], answers[PLAIN], setting.config.gate, bootstrap, in_study),
            )
        )
        print(result_line(results[-1]), flush=True)
    for place, (name, setting) in enumerate(settings.items()):
        if (control := control_of(setting, settings)) is not None:
            above = mean_difference(scores[name], scores[control], bootstrap)
            results[place] = replace(results[place], above_control=above)
    stated = {
        "profile": profile.name,
        "manifest": manifest.content_hash,
        "input_size": profile.model.input_size,
        "images": len(labels),
        "contrast": int((labels < 0).sum()),
        "replicates": REPLICATES,
        "looked_at": request.looked_at + len(results),
        "results": [asdict(result) for result in results],
    }
    if request.json is not None:
        write_result(request.json, "robust", stated)
    return 0


def _check_file(file: Path | None) -> None:
    """Make the folder of a file of results; raise an error if the file could not be written."""
    if file is None:
        return
    with write_errors(file):
        make_folder(file.parent)
    if file.is_dir():
        raise ConfigError(f"Expected a file at {file}.", received="a folder", advice="Give the name of a file.")


def accuracy_figures(
    answers: "OutOfFold | None", of_plain: "OutOfFold | None", gate: bool, bootstrap: "Bootstrap", in_study: "Array"
) -> tuple[Interval | None, Interval | None, Interval | None]:
    """Return accuracy, its difference to the plain head in points, and the share of indeterminate answers, in percent.

    `in_study` (N,) are the images that are not contrast images. `None` where a head could not be fitted, and without a
    `gate`, which alone gives indeterminate answers.
    """
    if answers is None:
        return None, None, None
    change = None if of_plain is None else bootstrap.difference(answers.right, of_plain.right, in_study)
    indeterminate = bootstrap.rate(answers.indeterminate, in_study) if gate else None
    return bootstrap.rate(answers.right, in_study), change, indeterminate


def control_of(setting: Setting, settings: Mapping[str, Setting]) -> str | None:
    """Return the name of the control of a setting that sees lungs: the same on all but the lungs, if it is there."""
    if "lungs" not in setting.config.views:
        return None
    control = replace(setting, config=without_lungs(setting.config))
    return next((name for name, other in settings.items() if other == control), None)


def without_lungs(config: RobustConfig) -> RobustConfig:
    """Return the settings with the view of all but the lungs in place of their own views."""
    return replace(config, views=("without-lungs",), appearance="none")


def settings_to_compare(chosen: RobustConfig) -> dict[str, Setting]:
    """Return the plain head, each option alone, the `chosen` settings, their control, and each chosen option left out.

    The control of lungs sees everything but the lungs, with the other settings of `chosen`. What sees the lungs of an
    outline is compared with lungs of the segmenter too.
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
    settings = {PLAIN: Setting(plain)}
    settings |= {name: Setting(replace(plain, **changes)) for name, changes in alone.items()}
    segmenter: Lungs = "segmenter"
    settings["box of the segmenter's lungs, equalised"] = Setting(replace(plain, views=("lungs",)), segmenter)
    settings["control: without the segmenter's lungs"] = Setting(replace(plain, views=("without-lungs",)), segmenter)
    settings |= within_lungs()
    settings[CHOSEN] = Setting(chosen)
    if "lungs" in chosen.views:
        control = without_lungs(chosen)
        settings[CONTROL] = Setting(control)
        settings[f"{CHOSEN} with the segmenter's lungs"] = Setting(chosen, segmenter)
        settings[f"{CONTROL} without the segmenter's lungs"] = Setting(control, segmenter)
    needing: dict[str, dict[str, Any]] = {"against": {"margin": 0.0}, "views": {"appearance": "none"}}
    for key, value in changed(chosen).items():
        if key != "margin":
            without = replace(chosen, **{key: getattr(plain, key)}, **needing.get(key, {}))
            settings[f"robust without {key} = {value_text(value)}"] = Setting(without)
    return settings


def within_lungs() -> dict[str, Setting]:
    """Return strongly shrunk heads on lungs, fitted within origins or with the gate, each with its control."""
    start = RobustConfig(contrast=True, shrinkage=STRONG_SHRINKAGE)
    heads = {
        "within origins": replace(start, last_layer="within"),
        "gate": replace(start, gate=True),
    }
    boxes: dict[Lungs, tuple[str, str]] = {
        "outline": ("central box", "without the outline"),
        "segmenter": ("box of the segmenter's lungs", "without the segmenter's lungs"),
    }
    settings = {}
    for name, config in heads.items():
        for lungs, (box, hidden) in boxes.items():
            shown = replace(config, views=("lungs",))
            settings[f"{name}, {box}, strongly shrunk"] = Setting(shown, lungs)
            settings[f"control: {name}, {hidden}, strongly shrunk"] = Setting(without_lungs(shown), lungs)
    return settings
