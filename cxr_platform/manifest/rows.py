"""The content of a manifest: its rows without pixels, and manifest.json."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from cxr_platform.config import Profile
from cxr_platform.errors import FoldError
from cxr_platform.intake.eligibility import clearest_view
from cxr_platform.intake.layouts.tables import NEARLY
from cxr_platform.intake.sources import Inventory
from cxr_platform.labels import CLASSES
from cxr_platform.manifest.cache import DECODING_PACKAGES, package_versions
from cxr_platform.manifest.folds import OUTSIDE, assign_folds, contrast_folds
from cxr_platform.manifest.records import ExcludedFile, SelectedImage
from cxr_platform.manifest.schema import (
    LookedAt,
    ManifestInfo,
    content_hash,
    count_groups,
    count_images,
    manifest_schema,
    without_pixels,
)
from cxr_platform.manifest.selection import Selection

UNCLASSED = ("unknown-folder", "finding-not-studied", "several-findings", "further-findings", "not-listed")
"""Reasons for which a file has no class, and whose detail names the folder, the findings or the table."""
FREQUENT = 5
PACKAGES = ("cxr-platform", "ray", "pyarrow", "scikit-learn", "great-expectations", "faiss-cpu", *DECODING_PACKAGES)
"""Libraries on which a manifest depends."""


def make_rows(selection: Selection, profile: Profile) -> pa.Table:
    """Return every column but the pixels, one row per image, in order. Raises `FoldError`."""
    study = [i for i, image in enumerate(selection.images) if image.in_study]
    labels = [str(selection.images[i].candidate.label) for i in study]
    grouped, paper = assign_folds(labels, [selection.groups[i] for i in study], profile.folds, profile.seed)
    folds = [(OUTSIDE, OUTSIDE)] * len(selection.images)
    for position, i in enumerate(study):
        folds[i] = int(paper[position]), int(grouped[position])
    contrast = [i for i, image in enumerate(selection.images) if image.is_contrast]
    fold_of_group = {selection.groups[i]: folds[i][1] for i in study}
    groups = [selection.groups[i] for i in contrast]
    grouped, paper = contrast_folds(groups, fold_of_group, profile.folds, profile.seed)
    for position, i in enumerate(contrast):
        folds[i] = int(paper[position]), int(grouped[position])
    schema = without_pixels(manifest_schema(profile.intake.decoding.image_size))
    values = zip(selection.images, selection.patients, selection.groups, folds, strict=True)
    return pa.Table.from_pylist([_row(*row) for row in values], schema=schema)


def _row(image: SelectedImage, patient: str | None, group: str, folds: tuple[int, int]) -> dict[str, Any]:
    """What the collection states comes before what the file states."""
    candidate, facts = image.candidate, image.facts
    return {
        "image_id": image.image_id,
        "source": candidate.source,
        "role": candidate.role,
        "source_path": candidate.source_path,
        "file_sha256": facts.file_sha256,
        "pixel_sha256": facts.pixel_sha256,
        "phash": facts.phash,
        "label": candidate.label,
        "finding": candidate.finding,
        "patient_id": patient,
        "group_id": group,
        "view": clearest_view(candidate.view, facts.view),
        "age": facts.age if candidate.age is None else candidate.age,
        "sex": candidate.sex or facts.sex,
        "width": facts.width,
        "height": facts.height,
        "bit_depth": facts.bit_depth,
        "color_mode": facts.color_mode,
        "padding_fraction": facts.padding_fraction,
        "mean": facts.mean,
        "std": facts.std,
        "fold_paper": folds[0],
        "fold_grouped": folds[1],
        "reader_label": candidate.reader_label,
        "reader_finding": candidate.reader_finding,
    }


def make_info(
    rows: pa.Table, selection: Selection, inventory: Inventory, profile: Profile, inputs: dict[str, str]
) -> ManifestInfo:
    """Return manifest.json; `inputs` are those of `manifest.inputs.input_hashes`."""
    return ManifestInfo(
        **_counts(selection, inventory),
        content_hash=content_hash(rows),
        seed=profile.seed,
        folds=profile.folds,
        config=profile.intake,
        created_with=package_versions(PACKAGES),
        files_hash=inputs["files_hash"],
        overrule_hash=inputs["overrule_hash"],
    )


def make_looked_at(selection: Selection, inventory: Inventory, error: FoldError | None) -> LookedAt:
    """Return counts.json; `error` is that of `make_rows`."""
    labels = {candidate.source_path: candidate.label for candidate in inventory.candidates}
    lost: dict[str, Counter[str]] = {name: Counter() for name in CLASSES}
    for item in selection.excluded:
        if label := labels.get(item.source_path):
            lost[label][item.refusal.reason] += 1
    excluded_of_class = {name: dict(reasons.most_common()) for name, reasons in lost.items() if reasons}
    return LookedAt(
        **_counts(selection, inventory),
        excluded_of_class=excluded_of_class,
        excluded_without_class=_frequent_details(selection.excluded, labels),
        without_folds="" if error is None else str(error),
    )


def _frequent_details(excluded: Iterable[ExcludedFile], labels: Mapping[str, str | None]) -> dict[str, dict[str, int]]:
    """Return the details, which name folders and findings, of the reasons in `UNCLASSED`, the most frequent first."""
    details: dict[str, Counter[str]] = {reason: Counter() for reason in UNCLASSED}
    for item in excluded:
        if item.refusal.reason in details and not labels.get(item.source_path):
            details[item.refusal.reason][item.refusal.detail.partition(NEARLY)[0]] += 1
    return {reason: dict(counts.most_common(FREQUENT)) for reason, counts in details.items() if counts}


def _counts(selection: Selection, inventory: Inventory) -> dict[str, Any]:
    """Return the fields of `ImageCounts`."""
    sources = [image.candidate.source for image in selection.images]
    known = Counter(source for source, patient in zip(sources, selection.patients, strict=True) if patient)
    return {
        "synthetic": not inventory.synthetic_sources.isdisjoint(sources),
        "images": len(selection.images),
        "files": len(inventory.candidates),
        "counts": count_images([image.candidate.label for image in selection.images], sources),
        "contrast": dict(sorted(Counter(i.candidate.source for i in selection.images if i.is_contrast).items())),
        "outside": dict(sorted(Counter(i.candidate.source for i in selection.images if i.is_outside).items())),
        "reader_labels": dict(
            sorted(Counter(i.candidate.source for i in selection.images if i.candidate.reader_finding).items())
        ),
        "excluded": dict(sorted(Counter(item.refusal.reason for item in selection.excluded).items())),
        "shortfalls": tuple(selection.shortfalls),
        "groups": count_groups(selection.groups),
        "missing_files": inventory.missing_files,
        "ignored_columns": {name: columns for name, columns in inventory.ignored_columns.items() if columns},
        "known_patients": {source: known[source] for source in sorted(set(sources))},
        "shared_patients": selection.shared_patients,
        "origins": inventory.origins,
    }
