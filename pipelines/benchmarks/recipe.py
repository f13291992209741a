"""Try settings of the training from scratch on a split within the training part of fold 0.

The folds that a study reports have no part in the choice: three quarters of the groups outside fold 0 are trained on,
the rest is predicted. Every trial is that of a study; trials run one after another, on a GPU or on as many processors
as a trial has. Their processor time is printed: other work on the machine changes it less than it changes the seconds.
The accuracy of settings is the mean over the seeds, and its difference from that of the profile's own settings has an
interval over the predicted groups.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxr_platform.config import Profile, load_profile
from cxr_platform.domain.interval import Interval
from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.errors import ConfigError
from cxr_platform.evaluation.formatting import text
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.labels import CLASSES
from pipelines.benchmarks import write_result

if TYPE_CHECKING:
    from cxr_platform.training.data import StudyData
    from cxr_platform.training.plan import Share

FOLD = 0
TRAINED_SHARE = 0.75

READ_TABLES = ("model.", "training.scratch.")
READ_KEYS = (
    "augmentation.rotation_degrees",
    "augmentation.shift_fraction",
    "training.batch_size",
    "training.warmup_fraction",
    "training.label_smoothing",
    "training.class_weights",
    "training.precision",
)
"""Settings that this training reads; others would change nothing."""


@dataclass(frozen=True)
class RecipeRequest:
    """Manifest, profile, settings to try, seeds, and the JSON file for the result (`None`: print only)."""

    manifest: Path
    profile: str
    settings: tuple[dict[str, Any], ...]
    seeds: tuple[int, ...]
    json: Path | None

    def all(self) -> Sequence[dict[str, Any]]:
        """Return the profile's own settings, and those to try."""
        return [{}, *self.settings]


@dataclass(frozen=True)
class Attempt:
    """One training: accuracies (0 to 1) on predicted and on augmented training images, the latter in the last epoch.

    `recalls` are by class. `processor_seconds` are those of the training and the prediction.
    """

    settings: Mapping[str, Any]
    seed: int
    accuracy: float
    recalls: Mapping[str, float]
    training_accuracy: float
    training_loss: float
    epochs: int
    processor_seconds: float


@dataclass(frozen=True)
class Compared:
    """Settings with the mean accuracy of all seeds in percent, and its difference in points from the profile's own."""

    settings: Mapping[str, Any]
    accuracy: Interval
    difference: Interval

    def __str__(self) -> str:
        return f"{json.dumps(self.settings)}: accuracy {text(self.accuracy)} %, difference {text(self.difference)}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `cxr benchmark recipe`."""
    parser.add_argument("--manifest", type=Path, required=True, help="folder of a manifest")
    parser.add_argument("--profile", default="quick", help="name or path of a profile (default: quick)")
    parser.add_argument(
        "--settings",
        type=parse_settings,
        action="append",
        default=[],
        metavar="JSON",
        help='settings to try beside the profile\'s own, such as {"training.batch_size": 16}; may be repeated',
    )
    parser.add_argument(
        "--seeds", type=parse_seeds, default=(1,), metavar="N,…", help="seeds to train with (default: 1)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result with hardware and versions")


def parse_settings(text: str) -> dict[str, Any]:
    """Return the JSON object of an option; raise `argparse.ArgumentTypeError` for anything else.

    A setting that training from scratch does not read is an error too.
    """
    try:
        settings = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"expected JSON, received {text!r} ({error})") from None
    if not isinstance(settings, dict):
        raise argparse.ArgumentTypeError(f"expected a JSON object of settings, received {text!r}")
    unread = [key for key in settings if not key.startswith(READ_TABLES) and key not in READ_KEYS]
    if unread:
        known = ", ".join([*(f"{table}…" for table in READ_TABLES), *READ_KEYS])
        raise argparse.ArgumentTypeError(f"expected settings of training from scratch ({known}), not {unread[0]}")
    return settings


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return whole numbers of at least 0, separated by commas; raise `argparse.ArgumentTypeError` for other text."""
    numbers = [number.strip() for number in text.split(",")]
    if not all(number.isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError(f"expected whole numbers separated by commas, not {text!r}")
    return tuple(map(int, numbers))


def run(request: RecipeRequest) -> int:
    """Print a line for each setting and seed; return 0."""
    from cxr_platform.manifest.store import open_manifest
    from cxr_platform.training.data import load_study_data
    from cxr_platform.training.devices import is_deterministic, limit_process
    from cxr_platform.training.engine_local import local_share
    from cxr_platform.training.study import resolved_precision

    manifest = open_manifest(request.manifest)
    profiles = [load_profile(request.profile, {"folds": manifest.info.folds, **given}) for given in request.all()]
    share = local_share(profiles[0].resources)
    limit_process(share.cpus, share.gpus, is_deterministic(profiles[0].resources, share.gpus))
    load = cache(partial(load_study_data, manifest, "grouped"))  # most settings leave folds and size alone
    own = load(profiles[0].folds, profiles[0].model.input_size)
    train, test = inner_split(own, profiles[0].seed)
    attempts, correct = [], []
    for given, profile in zip(request.all(), profiles, strict=True):
        data = load(profile.folds, profile.model.input_size)
        results = [_attempt(given, profile, share, data, train, test, seed) for seed in request.seeds]
        attempts += [attempt for attempt, _ in results]
        correct.append(np.mean([right for _, right in results], axis=0))
    bootstrap = Bootstrap(own.group_ids[test], seed=profiles[0].seed)
    compared = [
        Compared(given, bootstrap.rate(right), bootstrap.difference(right, correct[0]))
        for given, right in zip(request.all(), correct, strict=True)
    ]
    for one in compared:
        print(one)
    if request.json is not None:
        result = {
            "images": {"trained": len(train), "predicted": len(test)},
            "profile": request.profile,
            "input_size": profiles[0].model.input_size,
            "seeds": request.seeds,
            "precision": resolved_precision(profiles[0].training.precision, share),
            "deterministic": is_deterministic(profiles[0].resources, share.gpus),
            "attempts": [asdict(one) for one in attempts],
            "compared": [asdict(one) for one in compared],
        }
        write_result(request.json, "recipe", result)
    return 0


def inner_split(data: "StudyData", seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the rows to train on and to predict: groups outside fold 0, drawn at random.

    Raises `ConfigError` if the split has no image on one side.
    """
    rows = data.rows_outside(FOLD)
    groups = np.random.default_rng([seed, FOLD]).permutation(np.unique(data.group_ids[rows]))
    trained = np.isin(data.group_ids[rows], groups[: round(TRAINED_SHARE * len(groups))])
    if trained.all() or not trained.any():
        raise ConfigError("Expected at least two groups outside fold 0.", received=len(groups))
    return rows[trained], rows[~trained]


def _attempt(
    given: Mapping[str, Any],
    profile: Profile,
    share: "Share",
    data: "StudyData",
    train: NDArray[Any],
    test: NDArray[Any],
    seed: int,
) -> tuple[Attempt, NDArray[Any]]:
    """Train and print a line; return what came out, and whether each predicted image got its class (n,)."""
    from cxr_platform.training.inputs import ImageInputs
    from cxr_platform.training.study import placement_of, resolved_precision
    from cxr_platform.training.trial import TrialData, Workbench, run_trial

    rows = TrialData(ImageInputs(data.images, profile.augmentation), data.labels, train, test)
    began = time.process_time()
    precision = resolved_precision(profile.training.precision, share)
    placement = placement_of(profile.resources, share.gpus)
    bench = Workbench(profile.model, profile.training, precision=precision, placement=placement)
    result = run_trial(bench, strategy_by_name("scratch"), rows, seed)
    seconds = time.process_time() - began
    labels, last = data.labels[test], result.history[-1]
    correct = result.probabilities.argmax(axis=1) == labels
    recalls = {name: float(correct[labels == i].mean()) for i, name in enumerate(CLASSES) if (labels == i).any()}
    accuracy = float(correct.mean())
    attempt = Attempt(given, seed, accuracy, recalls, last.accuracy, last.loss, last.epochs, seconds)
    print(_line(attempt), flush=True)
    return attempt, correct


def _line(attempt: Attempt) -> str:
    recalls = ", ".join(f"{name} {value:.2f}" for name, value in attempt.recalls.items())
    return (
        f"{json.dumps(attempt.settings)}, seed {attempt.seed}: accuracy {attempt.accuracy:.3f} ({recalls}); "
        f"in training {attempt.training_accuracy:.3f}, loss {attempt.training_loss:.3f}; {attempt.epochs} epochs, "
        f"{attempt.processor_seconds:.0f} s of a processor"
    )
