"""Facts of a study as text for the study card, by the names that `card_items.json` has in braces.

An unknown fact has no entry, and the items that need it stay open. An empty fact leaves out a clause of its item.
"""

from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any

import pandas as pd

from cxr_platform.config import Profile, RobustConfig, ScheduleConfig, SelectionConfig
from cxr_platform.domain.interval import REPLICATES
from cxr_platform.domain.strategies import ROBUST, TITLES, strategy_by_name
from cxr_platform.domain.study import StudyRecord
from cxr_platform.evaluation.finding_clauses import external_text, outside_text
from cxr_platform.evaluation.findings import Findings
from cxr_platform.evaluation.formatting import count, joined, percent, rate, text
from cxr_platform.evaluation.limits import known_patients
from cxr_platform.evaluation.report_contents import ReportContents
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.resource_use import numerics_line
from cxr_platform.evaluation.summary import CREDIBILITY, NEXT_STEPS, PROTOCOL_MEANING
from cxr_platform.labels import CLASSES

FAMILIES = {
    "off_the_shelf": "off-the-shelf",
    "fine_tuning": "fine-tuning",
    "scratch": "from scratch",
    ROBUST: "robust head",
}
INITIAL_WEIGHTS = {
    "off_the_shelf": "off-the-shelf features: ImageNet weights under a random head",
    "fine_tuning": "fine-tuning: ImageNet weights under a random head",
    "scratch": "from scratch: random weights",
    ROBUST: "robust head: ImageNet weights under a head that is solved",
}
DISJOINT = {
    "paper": "Images only: images of one patient may be in several folds.",
    "grouped": "Patients, if the collection identifies them, with all detected duplicates and near-duplicates.",
}
FIXED_EPOCHS = "Every network trains for a fixed number of epochs; nothing is selected on the held-out fold."
WINNER_BIAS = (
    " The winner is the best strategy on the same folds, so its results are slightly too high; the headline is "
    "corrected for that."
)
COMPARED_BY = (
    "; strategies compared on the same images by max-T bootstrap intervals over patients and an exact sign test over "
    "patients with Holm's correction for all pairs; the winner's accuracy corrected for its having been picked"
)
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
"""Fact → the setting of the profile that is its value."""


def card_facts(inputs: ReportInputs, contents: ReportContents) -> dict[str, str]:
    """Return every known fact of a study by name."""
    return {
        **dict(_study_facts(inputs)),
        **_profile_facts(inputs.study),
        **_image_facts(inputs),
        **_finding_facts(contents.findings, inputs.results.decision.winner),
        **_report_facts(contents),
    }


def _study_facts(inputs: ReportInputs) -> Iterator[tuple[str, str]]:
    study, results, predictions = inputs.study, inputs.results, inputs.predictions
    held_out = [int((predictions.fold == fold).sum()) for fold in range(study.folds)]
    yield "name", study.name
    yield "started", study.started.isoformat()
    yield "hash", study.manifest.content_hash
    yield "protocol", study.protocol
    yield "protocol_meaning", PROTOCOL_MEANING[study.protocol]
    yield "disjoint", f"{DISJOINT[study.protocol]} {known_patients(results)}"
    yield "strategies", count(len(study.strategies), "training strategy", "training strategies")
    yield "initialisation", "; ".join(INITIAL_WEIGHTS[family] for family in _families(study))
    yield "selected", FIXED_EPOCHS + (WINNER_BIAS if len(study.strategies) > 1 else "")
    yield "folds", str(study.folds)
    yield "fold_sizes", f"{min(held_out):,} to {max(held_out):,}"
    yield "images", f"{results.images:,}"
    yield "groups", f"{len(set(predictions.group_id)):,}"
    yield "trials", str(study.folds * len(study.strategies))
    yield "classes", ", ".join(CLASSES)
    yield "class_counts", ", ".join(f"{label} {sum(results.counts[label].values()):,}" for label in CLASSES)
    contrast = sum(study.manifest.contrast.values())
    yield "contrast_counts", f" Of other findings: {count(contrast, 'image', 'images')}." if contrast else ""
    yield "majority", percent(results.majority_accuracy)
    yield "versions", ", ".join(f"{name} {version}" for name, version in study.versions.items())
    yield "winner", TITLES[results.decision.winner]
    if "cxr-platform" in study.versions:
        yield "own_version", study.versions["cxr-platform"]
    images_of = results.images_of_source
    yield "sources", "; ".join(f"{source}: {count(n, 'image', 'images')}" for source, n in images_of.items())
    yield "source_names", ", ".join(images_of)
    yield "number_of_sources", count(len(images_of), "collection", "collections")


def _profile_facts(study: StudyRecord) -> dict[str, str]:
    profile = study.profile
    schedules = (f"{FAMILIES[family]}: {_training(profile, family)}" for family in _families(study))
    return {
        **{fact: str(attrgetter(path)(profile)) for fact, path in SETTINGS.items()},
        "shift": percent(100.0 * profile.augmentation.shift_fraction),
        "warmup": percent(100.0 * profile.training.warmup_fraction),
        "schedules": "; ".join(schedules),
        **_selection_facts(profile.intake.selection),
    }


def _families(study: StudyRecord) -> list[str]:
    """Return those of `FAMILIES` that have a strategy in the study."""
    families = {strategy_by_name(name).family for name in study.strategies}
    return [family for family in FAMILIES if family in families]


def _training(profile: Profile, family: str) -> str:
    """Return the schedule of a family, or the settings of a head that is solved without one, where they are not off."""
    if family != ROBUST:
        return _schedule(profile.training.schedule(family))
    plain, settings = vars(RobustConfig()), vars(profile.robust)
    shown = {key: " + ".join(value) if key == "views" else value for key, value in settings.items()}
    changed = [f"{key.replace('_', ' ')} {shown[key]}" for key in settings if settings[key] != plain[key]]
    return ", ".join(["solved in closed form", *changed])


def _schedule(schedule: ScheduleConfig) -> str:
    settings = {**vars(schedule), "at least steps": schedule.steps}
    shown = {key: value for key, value in settings.items() if key != "steps" and (value or key == "weight_decay")}
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in shown.items())


def _selection_facts(selection: SelectionConfig) -> dict[str, str]:
    view = "Frontal images only" if selection.frontal_only else "Images of every view"
    single = " with a single finding" if selection.single_finding_only else ""
    normal = ", “no finding” counted as Normal" if selection.no_finding_is_normal else ""
    chosen = "Every eligible image"
    if selection.caps == "paper":
        chosen = "The paper's numbers of images per class, drawn at random"
    limit = "" if selection.limit is None else f", at most {selection.limit} per class"
    return {
        "selection": f"{view}{single} whose label is one of the seven classes{normal}.",
        "caps": f"{chosen}{limit}.",
    }


def _image_facts(inputs: ReportInputs) -> dict[str, str]:
    if inputs.images is None:
        return {}
    images = inputs.images.facts[inputs.images.facts["role"] == "study"]
    facts = {
        "views": _value_counts(images["view"]),
        "known": ", ".join(f"{c} of {int(images[c].notna().sum()):,} images" for c in ("age", "sex", "view")),
        "characteristics": _characteristics(images),
        "in_manifest": f"{len(inputs.images.facts):,}",
    }
    if (info := inputs.images.info) is not None:
        excluded = info.excluded
        facts |= {
            "found": f"{info.files:,}",
            "excluded": ", ".join(f"{reason} {n:,}" for reason, n in sorted(excluded.items())) or "none",
            "excluded_number": f"{sum(excluded.values()):,}",
        }
    return facts


def _value_counts(column: "pd.Series[Any]") -> str:
    counts = [*column.dropna().value_counts().items(), ("unknown", int(column.isna().sum()))]
    return ", ".join(f"{value} {n:,}" for value, n in counts if n)


def _characteristics(images: pd.DataFrame) -> str:
    ages = images["age"].dropna()
    age = f"median {ages.median():.0f} years ({ages.min():.0f} to {ages.max():.0f})" if len(ages) else "unknown"
    patients = images["patient_id"].dropna().nunique()
    return (
        f"Images in the folds: {count(patients, 'identified patient', 'identified patients')}; "
        f"sex: {_value_counts(images['sex'])}; age: {age}, known for {len(ages):,} of {len(images):,} images; "
        f"view: {_value_counts(images['view'])}."
    )


def _finding_facts(findings: Findings, winner: str) -> dict[str, str]:
    facts = {
        "accuracy": _accuracy(findings),
        "sensitivity": rate(findings.sensitivity),
        "specificity": rate(findings.specificity),
        "external_too": ", and evaluation on external images" if findings.external else "",
        "replicates": f"{REPLICATES:,}",
        "compared_by": COMPARED_BY if findings.comparisons else "",
    }
    facts["probes_too"] = ""
    if findings.probes:
        facts["probes"] = f"Shortcut probes: {' '.join(probe.sentence for probe in findings.probes)}"
        facts["probes_too"] = f" {facts['probes']}"
    if external := [external_text(finding) for finding in findings.external if finding.strategy == winner]:
        facts["external"] = f"{TITLES[winner]}: {'; '.join(external)}."
    outside = [outside_text(finding) for finding in findings.outside if finding.strategy == winner and finding.whole]
    facts["outside"] = f" Images outside the classes: {'; '.join(outside)}." if outside else ""
    if (lungs := findings.lungs) is not None:
        facts["lungs"] = (
            f"Heatmaps of {count(lungs.images, 'image', 'images')}; {rate(lungs.share)} of them lies in the lung "
            f"field, which covers {percent(lungs.field_share)} of the image."
        )
    if (calibration := findings.calibration) is not None:
        facts["calibration"] = (
            f"Temperature scaling, cross-fitted over folds: temperature {text(calibration.temperature)}, expected "
            f"calibration error {text(calibration.ece_before)} before, {text(calibration.ece_after)} after. "
            "Predictions elsewhere in the report are not recalibrated."
        )
    return facts


def _accuracy(findings: Findings) -> str:
    if findings.picked is None:
        return rate(findings.accuracy)
    return (
        f"{rate(findings.expected_accuracy)}, corrected for the choice of the best ({rate(findings.accuracy)} measured)"
    )


def _report_facts(contents: ReportContents) -> dict[str, str]:
    titles = {s.name: s.title for s in contents.sections if not s.absent}
    lines = {line.title: line.text for line in contents.summary.lines}
    facts = {
        **{f"section_{name}": title for name, title in titles.items()},
        "more_measures": "",
        "credibility": lines[CREDIBILITY],
        "next": lines[NEXT_STEPS],
        "limits": " ".join(contents.summary.limits),
        "numerics": numerics_line(contents.resource_use),
    }
    if clusters := [title for name, title in titles.items() if name in ("left_out", "subgroups", "sources")]:
        facts["clusters"] = f"See {joined([f'“{title}”' for title in clusters])} in index.html."
    if more := [title for name, title in titles.items() if name in ("intervals", "calibration", "net_benefit")]:
        facts["more_measures"] = f"; see {joined([f'“{title}”' for title in more])} in index.html"
    return facts
