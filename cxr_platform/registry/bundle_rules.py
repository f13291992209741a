"""What the values of a bundle must be beyond their types."""

import re
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cxr_platform.labels import CLASSES, POSITIVE_CLASS
from cxr_platform.registry.strict_json import Mismatch

if TYPE_CHECKING:
    from cxr_platform.registry.bundle import Bundle, Decided, Figure

RATIOS = frozenset({"macro_f1", "roc_auc", "average_precision", "brier"})
"""The metrics from 0 up; the others are in percent."""

NEEDED_METRICS = ("accuracy_7_class", "sensitivity", "specificity")
VERSION = re.compile(r"v[1-9][0-9]{0,8}")
SHA256 = re.compile("[0-9a-f]{64}")


def check_rules(bundle: "Bundle", members: Collection[str]) -> None:
    """Raise `Mismatch` for the first rule that is not kept."""
    for rule, (kept, received) in _rules(bundle, members).items():
        if not kept:
            raise Mismatch(rule, repr(received))


def is_utc_time(text: str) -> bool:
    """Whether `text` is an ISO time that states UTC, as `2026-01-31T12:00:00+00:00`."""
    try:
        return datetime.fromisoformat(text).utcoffset() == timedelta(0)
    except ValueError:
        return False


def _rules(bundle: "Bundle", members: Collection[str]) -> Mapping[str, tuple[bool, object]]:
    return {
        "version v1, v2, …": (VERSION.fullmatch(bundle.version) is not None, bundle.version),
        "created to be an ISO time in UTC (+00:00)": (is_utc_time(bundle.created), bundle.created),
        f"labels {', '.join(CLASSES)}": (bundle.labels == CLASSES, bundle.labels),
        f"positive_class {POSITIVE_CLASS}": (bundle.positive_class == POSITIVE_CLASS, bundle.positive_class),
        "temperature above 0": (bundle.temperature > 0, bundle.temperature),
        **_study_rules(bundle),
        **_input_rules(bundle),
        **_operating_rules(bundle),
        **_metric_rules(bundle),
        **_file_rules(bundle, members),
    }


def _study_rules(bundle: "Bundle") -> Mapping[str, tuple[bool, object]]:
    study, training = bundle.study, bundle.training
    return {
        "strategy to be one of study.strategies": (bundle.strategy in study.strategies, bundle.strategy),
        "study.winner to be one of study.strategies": (study.winner in study.strategies, study.winner),
        "study.manifest_hash": (bool(study.manifest_hash), study.manifest_hash),
        "study.images at least 1": (study.images >= 1, study.images),
        "study.folds at least 2": (study.folds >= 2, study.folds),
        "training.images at least 1": (training.images >= 1, training.images),
        "training.epochs at least 1": (training.epochs >= 1, training.epochs),
        "training.seconds not negative": (training.seconds >= 0, training.seconds),
    }


def _input_rules(bundle: "Bundle") -> Mapping[str, tuple[bool, object]]:
    size, letterbox, parity = bundle.preprocessing.input_size, bundle.preprocessing.decoding.image_size, bundle.parity
    return {
        "preprocessing.input_size from 32 to that of preprocessing.decoding": (32 <= size <= letterbox, size),
        "model.input_size as preprocessing.input_size": (bundle.model.input_size == size, bundle.model.input_size),
        "parity.images at least 1": (parity.images >= 1, parity.images),
        f"parity.max_abs_difference from 0 to parity.tolerance, {parity.tolerance:g}": (
            0 <= parity.max_abs_difference <= parity.tolerance,
            parity.max_abs_difference,
        ),
    }


def _operating_rules(bundle: "Bundle") -> Mapping[str, tuple[bool, object]]:
    point = bundle.operating_point
    target, (low, high) = point.target_sensitivity, point.zone
    return {
        "operating_point.target_sensitivity above 0 and to 1": (0 < target <= 1, target),
        "operating_point.threshold from 0 to 1": (0 <= point.threshold <= 1, point.threshold),
        "operating_point.zone from 0 to 1, rising": (0 <= low <= high <= 1, point.zone),
        "operating_point.sensitivity in percent": (_within(point.sensitivity, 100), point.sensitivity),
        "operating_point.specificity in percent": (_within(point.specificity, 100), point.specificity),
        **_decided_rules(point.decided),
    }


def _decided_rules(decided: "Decided") -> Mapping[str, tuple[bool, object]]:
    figures = {name: getattr(decided, name) for name in ("found", "missed", "cleared", "alarmed", "undecided")}
    ranges = {f"operating_point.decided.{n} in percent": (_within(f, 100), f) for n, f in figures.items()}
    pairs = {("found", "missed"), ("cleared", "alarmed")}
    sums = {pair: sum(figures[name].value or 0.0 for name in pair) for pair in pairs}
    return ranges | {
        f"operating_point.decided: {' and '.join(pair)} no more than 100 together": (total <= 100 + 1e-6, total)
        for pair, total in sums.items()
    }


def _metric_rules(bundle: "Bundle") -> Mapping[str, tuple[bool, object]]:
    missing = [name for name in NEEDED_METRICS if name not in bundle.metrics]
    limits = {name: 2 if name in RATIOS else 100 for name in bundle.metrics}  # a Brier score of seven classes is ≤ 2
    ranges = {f"metrics.{n} from 0 to {limits[n]}": (_within(f, limits[n]), f) for n, f in bundle.metrics.items()}
    return {f"metrics to hold {', '.join(NEEDED_METRICS)}": (not missing, f"none of {missing}"), **ranges}


def _file_rules(bundle: "Bundle", members: Collection[str]) -> Mapping[str, tuple[bool, object]]:
    return {
        f"files to be {', '.join(members)}": ({*bundle.files} == {*members}, sorted(bundle.files)),
        **{f"files.{n}.sha256": (SHA256.fullmatch(s.sha256) is not None, s.sha256) for n, s in bundle.files.items()},
    }


def _within(figure: "Figure", limit: float) -> bool:
    return all(bound is None or 0 <= bound <= limit for bound in (figure.value, figure.low, figure.high))
