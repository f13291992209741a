"""Command-line options that several verbs share, and the frozen records that hold their values.

A verb declares its options in `parser()` and their values in a dataclass, with a field for each option; `parse_request`
connects the two.
"""

import argparse
import dataclasses
import sys
import typing
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cxr_platform.config import Profile, load_profile
from cxr_platform.domain.strategies import parse_strategies
from cxr_platform.errors import ConfigError
from cxr_platform.storage.paths import parse_path

if typing.TYPE_CHECKING:
    from cxr_platform.monitoring.job_metrics import JobMetrics, ProgressWatch, Verb

T = TypeVar("T")

MANIFESTS, RUNS, REGISTRY = Path("data/manifests"), Path("runs"), Path("registry")
"""Where manifests, studies and bundles are unless an option names another place."""
ORIGINS_SUFFIX = "-origins"
"""End of the name of the study with the protocol origins, beside the one whose report shows it."""


def parse_request(kind: type[T], parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> T:
    """Parse `argv` (default: `sys.argv`) and return the values as the dataclass `kind`."""
    return build_request(kind, vars(parser.parse_args(argv)))


def build_request(kind: type[T], values: Mapping[str, Any]) -> T:
    """Return the dataclass `kind` with the `values` of its fields; a field of a dataclass type is built likewise."""
    types = typing.get_type_hints(kind)
    fields = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]  # typeshed has no public type of dataclasses
        if dataclasses.is_dataclass(types[field.name]):
            fields[field.name] = build_request(types[field.name], values)
        elif field.name in values:
            fields[field.name] = values[field.name]
    return kind(**fields)


def location(text: str) -> Path:
    """Return a path or the URI of an object store, as the `type` of an option; an unknown scheme is a usage error."""
    try:
        return parse_path(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def unchanging_location(text: str) -> Path:
    """As `location`, for files that do not change meanwhile: listings of a store are cached."""
    location(text)
    return parse_path(text, cache_listings=True)


def names(text: str) -> tuple[str, ...]:
    """Return the names in `text`, separated by commas."""
    return tuple(name for name in text.split(",") if name)


def strategy_list(text: str) -> tuple[str, ...]:
    """Return the strategies in `text` (see `parse_strategies`); an unknown one is a usage error."""
    try:
        return parse_strategies(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def positive(text: str) -> int:
    """Return a whole number of at least 1; another one is a usage error."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, not {text!r}")
    return int(text)


def add_storage_option(parser: argparse.ArgumentParser) -> None:
    """Add `--storage`."""
    parser.add_argument("--storage", type=location, metavar="URI", help="path or URI that holds manifests/ and runs/")


@dataclass(frozen=True)
class ProfileOptions:
    """A profile and the settings that replace its own; `None` keeps the profile's."""

    profile: str = "quick"
    folds: int | None = None
    seed: int | None = None
    input_size: int | None = None
    limit: int | None = None
    classes: str | None = None

    def load(self) -> Profile:
        """Return the profile with the settings replaced; raise `ConfigError` for an unknown name or a bad value."""
        settings = {
            "folds": self.folds,
            "seed": self.seed,
            "model.input_size": self.input_size,
            "intake.selection.limit": self.limit,
            "intake.selection.classes": self.classes,
        }
        return load_profile(self.profile, {key: value for key, value in settings.items() if value is not None})


def add_profile_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ProfileOptions`."""
    parser.add_argument(
        "--profile", default="quick", help="name of a profile, or path of a .toml file (default: quick)"
    )
    parser.add_argument("--folds", type=int, help="number of folds")
    parser.add_argument("--seed", type=int, help="seed of all random numbers")
    parser.add_argument("--input-size", type=int, metavar="PIXELS", help="side of the images that the network sees")
    parser.add_argument("--limit", type=int, metavar="N", help="largest number of images per class")
    parser.add_argument(
        "--classes",
        choices=("paper", "any"),
        help="collections of Normal and Pneumonia: the paper's, or any that has them (default: the profile's)",
    )


@dataclass(frozen=True)
class MetricsOptions:
    """Where the Prometheus metrics of a run are delivered; `None` reads CXR_METRICS_DIR and CXR_PUSHGATEWAY_URL."""

    metrics_dir: Path | None = None
    push_gateway: str | None = None

    def job(self, verb: "Verb", study: str) -> "AbstractContextManager[JobMetrics]":
        """Return a context manager that delivers the metrics of `verb` for `study` when the block ends.

        Raises `ConfigError` if the push gateway is not a URL.
        """
        from cxr_platform.monitoring.job_metrics import Destination, measured

        destination = Destination.choose(self.metrics_dir, self.push_gateway)
        return measured(verb, study, destination, lambda line: print(line, file=sys.stderr))

    def watch(self, job: "JobMetrics") -> "ProgressWatch":
        """Return what exports the progress of `job` while it runs."""
        from cxr_platform.monitoring.job_metrics import Destination, ProgressWatch

        return ProgressWatch(job, Destination.choose(self.metrics_dir, self.push_gateway))


def add_metrics_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `MetricsOptions`."""
    parser.add_argument("--metrics-dir", type=Path, help="folder of node exporter's textfile collector (Prometheus)")
    parser.add_argument("--push-gateway", metavar="URL", help="URL of a Prometheus push gateway")


@dataclass(frozen=True)
class StudyRequest:
    """A study and the files needed to open it: folders, or URIs of an object store."""

    study: Path
    manifest: Path | None = None
    imagenet_weights: Path | None = None


def add_study_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `StudyRequest`."""
    parser.add_argument("--study", type=location, required=True, metavar="runs/NAME", help="folder or URI of a study")
    parser.add_argument(
        "--manifest", type=location, help=f"manifest of the study (default: in the same storage, or in {MANIFESTS})"
    )
    add_weights_option(parser)


def add_weights_option(parser: argparse.ArgumentParser) -> None:
    """Add `--imagenet-weights`."""
    parser.add_argument("--imagenet-weights", type=location, metavar="FILE", help="published MobileNetV2 weights")
