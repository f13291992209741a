"""Facts of a study as words for the study card, by name; what is not known has no entry."""

from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING

from cxr_platform.config import ScheduleConfig, SelectionConfig
from cxr_platform.domain.interval import REPLICATES
from cxr_platform.domain.strategies import TITLES
from cxr_platform.domain.study import StudyRecord
from cxr_platform.evaluation.credibility import external_text
from cxr_platform.evaluation.findings import Findings
from cxr_platform.evaluation.formatting import count, joined, percent, rate, text
from cxr_platform.evaluation.report_contents import ReportContents
from cxr_platform.evaluation.report_inputs import ManifestImages, ReportInputs
from cxr_platform.evaluation.summary import PROTOCOL_MEANING
from cxr_platform.labels import CLASSES

if TYPE_CHECKING:
    import pandas as pd

FAMILIES = {"off_the_shelf": "off-the-shelf", "fine_tuning": "fine-tuning", "scratch": "from scratch"}
STARTS = {
    "off_the_shelf": "off-the-shelf features: ImageNet weights under a random head",
    "fine_tuning": "fine-tuning: ImageNet weights under a random head",
    "scratch": "from scratch: random weights",
}
FIXED = "Every network trains for its fixed number of epochs; the held-out fold chooses nothing within a strategy."
WINNER_CHOSEN = (
    " The winner is the strategy with the highest figures on the same folds, which makes its figures a little too high."
)
COMPARED_BY = "; strategies compared on the same images by McNemar's exact test with Holm's correction"
SETTINGS: Mapping[str, str] = {
    "alpha": "model.alpha",
    "input_size": "model.input_size",
    "dense_units": "model.dense_units",
    "dropout": "model.dropout",
    "seed": "seed",
    "batch_size": "training.batch_size",
    "label_smoothing": "training.label_smoothing",
    "class_weights": "training.class_weights",
    "image_size": "intake.decoding.image_size",
    "percentile_low": "intake.decoding.percentile_low",
    "percentile_high": "intake.decoding.percentile_high",
    "rotation": "augmentation.rotation_degrees",
}
"""Fact → the setting of the profile that it repeats."""


def card_facts(inputs: ReportInputs, contents: ReportContents) -> dict[str, str]:
    """Every fact that is known of a study."""
    facts = dict(_of_study(inputs))
    facts |= _of_profile(inputs.study)
    facts |= _of_images(inputs)
    facts |= _of_findings(contents.findings, inputs.results.decision.winner)
    facts |= _of_report(contents)
    return facts


def _of_study(inputs: ReportInputs) -> Iterator[tuple[str, str]]:
    study, results, predictions = inputs.study, inputs.results, inputs.predictions
    held_out = [int((predictions.fold == fold).sum()) for fold in range(study.folds)]
    yield "name", study.name
    yield "started", study.started.isoformat()
    yield "hash", study.manifest.content_hash
    yield "protocol", study.protocol
    yield "protocol_meaning", PROTOCOL_MEANING[study.protocol]
    yield "disjoint", _disjoint(study)
    yield "strategies", count(len(study.strategies), "way", "ways")
    yield "initialisation", "; ".join(STARTS[family] for family in _families(study))
    yield "selected", FIXED + (WINNER_CHOSEN if len(study.strategies) > 1 else "")
    yield "folds", str(study.folds)
    yield "fold_sizes", f"{min(held_out):,} to {max(held_out):,}"
    yield "images", f"{results.images:,}"
    yield "groups", f"{len(set(predictions.group_id)):,}"
    yield "trials", str(study.folds * len(study.strategies))
    yield "classes", ", ".join(CLASSES)
    yield "class_counts", ", ".join(f"{label} {sum(results.counts[label].values()):,}" for label in CLASSES)
    yield "majority", percent(results.majority_accuracy)
    yield "versions", ", ".join(f"{name} {version}" for name, version in study.versions.items())
    yield "winner", TITLES[results.decision.winner]
    if "cxr-platform" in study.versions:
        yield "own_version", str(study.versions["cxr-platform"])
    yield from _of_sources(inputs)


def _of_sources(inputs: ReportInputs) -> Iterator[tuple[str, str]]:
    totals: dict[str, int] = {}
    for by_source in inputs.results.counts.values():
        for source, images in by_source.items():
            totals[source] = totals.get(source, 0) + images
    yield "sources", "; ".join(f"{source}: {count(n, 'image', 'images')}" for source, n in sorted(totals.items()))
    yield "source_names", ", ".join(sorted(totals))
    yield "number_of_sources", count(len(totals), "collection", "collections")


def _disjoint(study: StudyRecord) -> str:
    if study.protocol == "paper":
        return "Images only: images of one patient may stand on both sides of a fold."
    return "Patients, where the collection names them, with all duplicates and near-duplicates found."


def _of_profile(study: StudyRecord) -> dict[str, str]:
    profile = study.profile
    schedules = (f"{FAMILIES[family]}: {_schedule(getattr(profile.training, family))}" for family in _families(study))
    return {
        **{fact: str(attrgetter(path)(profile)) for fact, path in SETTINGS.items()},
        "shift": percent(100.0 * profile.augmentation.shift_fraction),
        "warmup": percent(100.0 * profile.training.warmup_fraction),
        "schedules": "; ".join(schedules),
        **dict(_of_selection(profile.intake.selection)),
    }


def _families(study: StudyRecord) -> list[str]:
    """Those of `FAMILIES` that have a strategy in the study."""
    ran = {name.rstrip("0123456789").rstrip("-").replace("-", "_") for name in study.strategies}
    return [family for family in FAMILIES if family in ran]


def _schedule(schedule: ScheduleConfig) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in vars(schedule).items())


def _of_selection(selection: SelectionConfig) -> Iterator[tuple[str, str]]:
    view = "Frontal images only" if selection.frontal_only else "Images of every view"
    single = " with a single finding" if selection.single_finding_only else ""
    normal = ", “no finding” counted as Normal" if selection.no_finding_is_normal else ""
    yield "selection", f"{view}{single} whose label is one of the seven classes{normal}."
    caps, limit = selection.caps, selection.limit
    chosen = "the paper's numbers of images a class, drawn at random" if caps == "paper" else "every eligible image"
    yield "caps", f"{chosen[:1].upper()}{chosen[1:]}{'' if limit is None else f', at most {limit} a class'}."


def _of_images(inputs: ReportInputs) -> dict[str, str]:
    if inputs.images is None:
        return {}
    study_images: pd.DataFrame = inputs.images.facts[inputs.images.facts["role"] == "study"]
    facts = {
        "views": _counted(study_images["view"]),
        "known": ", ".join(f"{c} of {int(study_images[c].notna().sum()):,} images" for c in ("age", "sex", "view")),
        "characteristics": _characteristics(study_images),
        "in_manifest": f"{len(inputs.images.facts):,}",
    }
    return facts | _of_record(inputs.images)


def _of_record(images: ManifestImages) -> dict[str, str]:
    if images.info is None:
        return {}
    excluded = images.info.excluded
    return {
        "found": f"{images.info.files:,}",
        "excluded": ", ".join(f"{reason} {n:,}" for reason, n in sorted(excluded.items())) or "none",
        "excluded_number": f"{sum(excluded.values()):,}",
    }


def _counted(column: "pd.Series") -> str:
    counted = [*column.dropna().value_counts().items(), ("unknown", int(column.isna().sum()))]
    return ", ".join(f"{value} {n:,}" for value, n in counted if n)


def _characteristics(images: "pd.DataFrame") -> str:
    ages = images["age"].dropna()
    age = f"median {ages.median():.0f} years ({ages.min():.0f} to {ages.max():.0f})" if len(ages) else "unknown"
    patients = images["patient_id"].dropna().nunique()
    return (
        f"ManifestImages of the folds: {count(patients, 'named patient', 'named patients')}; sex: {_counted(images['sex'])}; "
        f"age: {age}, known of {len(ages):,} of {len(images):,} images; view: {_counted(images['view'])}."
    )


def _of_findings(findings: Findings, winner: str) -> dict[str, str]:
    facts = {
        "accuracy": rate(findings.accuracy),
        "sensitivity": rate(findings.sensitivity),
        "specificity": rate(findings.specificity),
        "external_too": ", and evaluation on external images" if findings.external else "",
        "replicates": f"{REPLICATES:,}",
        "compared_by": COMPARED_BY if findings.comparisons else "",
    }
    if findings.probes:
        facts["probes"] = f"Probes for shortcuts: {' '.join(probe.sentence for probe in findings.probes)}"
    if external := [external_text(finding) for finding in findings.external if finding.strategy == winner]:
        facts["external"] = f"{TITLES[winner]}: {'; '.join(external)}."
    if (lungs := findings.lungs) is not None:
        facts["lungs"] = (
            f"Heatmaps of {count(lungs.images, 'image', 'images')}; {rate(lungs.share)} of them lies in the lung field, "
            f"which covers {percent(lungs.field_share)} of the image."
        )
    if (calibrated := findings.calibration) is not None:
        facts["calibration"] = (
            f"Temperature scaling, fitted by cross-fitting over folds: temperature {text(calibrated.temperature)}, "
            f"expected calibration error {text(calibrated.ece_before)} before, {text(calibrated.ece_after)} after. "
            "Predictions elsewhere in the report are not recalibrated."
        )
    return facts


def _of_report(contents: ReportContents) -> dict[str, str]:
    present = {s.name: s.title for s in contents.sections if not s.absent}
    facts = {f"section_{name}": title for name, title in present.items()}
    clusters = [title for name, title in present.items() if name in ("left_out", "subgroups", "sources")]
    if clusters:
        facts["clusters"] = f"See {joined([f'“{title}”' for title in clusters])} in index.html."
    more = [title for name, title in present.items() if name in ("intervals", "calibration")]
    facts["more_measures"] = f"; see {joined([f'“{title}”' for title in more])} in index.html" if more else ""
    lines = {line.title: line.text for line in contents.summary.lines}
    facts["belief"] = lines["Can it be believed"]
    facts["next"] = lines["What to do next"]
    facts["limits"] = " ".join(contents.summary.limits)
    return facts
