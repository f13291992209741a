"""From images that take part to the columns of the manifest, and to the facts in manifest.json."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from cxr_platform.config import Profile
from cxr_platform.intake.sources import Inventory
from cxr_platform.labels import CLASSES
from cxr_platform.manifest.folds import OUTSIDE, assign_folds
from cxr_platform.manifest.schema import SCHEMA_VERSION, manifest_schema, without_pixels
from cxr_platform.manifest.selection import Taken
from cxr_platform.manifest.store import content_hash
from cxr_platform.manifest.take_part import Choice
from cxr_platform.manifest.versions import package_versions

PACKAGES = ("cxr-platform", "ray", "pyarrow", "numpy", "pillow", "tensorflow-io", "scikit-learn", "great-expectations")


def make_rows(
    taken: Sequence[Taken], patients: Sequence[str | None], groups: Sequence[str], profile: Profile
) -> pa.Table:
    """Every column but the pixels, one row an image, in the order of `taken`. Raises `FoldError`."""
    folds = _folds(taken, groups, profile)
    schema = without_pixels(manifest_schema(profile.intake.decoding.image_size))
    rows = [_row(*values) for values in zip(taken, patients, groups, folds, strict=True)]
    return pa.Table.from_pylist(rows, schema=schema)


def _folds(taken: Sequence[Taken], groups: Sequence[str], profile: Profile) -> list[tuple[int, int]]:
    study = [i for i, image in enumerate(taken) if image.candidate.role == "study"]
    labels = [str(taken[i].candidate.label) for i in study]
    grouped, paper = assign_folds(labels, [groups[i] for i in study], profile.folds, profile.seed)
    folds = [(OUTSIDE, OUTSIDE)] * len(taken)
    for position, i in enumerate(study):
        folds[i] = int(paper[position]), int(grouped[position])
    return folds


def _row(image: Taken, patient: str | None, group: str, folds: tuple[int, int]) -> dict[str, Any]:
    told, facts = image.candidate, image.facts
    return {
        "image_id": image.image_id,
        "source": told.source,
        "role": told.role,
        "source_path": told.source_path,
        "file_sha256": facts.file_sha256,
        "pixel_sha256": facts.pixel_sha256,
        "phash": facts.phash,
        "label": told.label,
        "finding": told.finding,
        "patient_id": patient,
        "group_id": group,
        "view": told.view or facts.view,
        "age": facts.age if told.age is None else told.age,
        "sex": told.sex or facts.sex,
        "width": facts.width,
        "height": facts.height,
        "bit_depth": facts.bit_depth,
        "color_mode": facts.color_mode,
        "padding_fraction": facts.padding_fraction,
        "mean": facts.mean,
        "std": facts.std,
        "fold_paper": folds[0],
        "fold_grouped": folds[1],
    }


def make_info(rows: pa.Table, choice: Choice, found: Inventory, profile: Profile) -> dict[str, Any]:
    """The content of manifest.json; no times and no paths of this machine, so that equal builds give equal files."""
    return {
        "schema_version": SCHEMA_VERSION,
        "content_hash": content_hash(rows),
        "seed": profile.seed,
        "folds": profile.folds,
        "synthetic": not found.synthetic_sources.isdisjoint(rows["source"].to_pylist()),
        "images": len(rows),
        "found": len(found.candidates),
        "counts": count_images(rows),
        "excluded": dict(sorted(Counter(e.refusal.reason for e in choice.excluded).items())),
        "shortfalls": [asdict(shortfall) for shortfall in choice.shortfalls],
        "groups": count_groups(rows["group_id"].to_pylist()),
        "missing_files": found.missing_files,
        "config": asdict(profile.intake),
        "created_with": package_versions(PACKAGES),
    }


def count_images(rows: pa.Table) -> dict[str, dict[str, int]]:
    """Class → source → number of images, in the order of `CLASSES`."""
    pairs = Counter(zip(rows["label"].to_pylist(), rows["source"].to_pylist(), strict=True))
    return {name: {s: n for (label, s), n in sorted(pairs.items()) if label == name} for name in CLASSES}


def count_groups(groups: Sequence[str]) -> dict[str, int]:
    """Size of a group, as text → number of groups of that size."""
    sizes = Counter(Counter(groups).values())
    return {str(size): count for size, count in sorted(sizes.items())}
