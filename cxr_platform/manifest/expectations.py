"""What every manifest must satisfy: tables that are read back from its files, and expectations about each of them."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow.compute as pc

from cxr_platform.intake.candidate import REASONS
from cxr_platform.labels import CLASSES, UNDECIDED
from cxr_platform.manifest.folds import OUTSIDE
from cxr_platform.manifest.schema import PIXELS, count_images, manifest_schema, pixels_to_numpy
from cxr_platform.manifest.store import Manifest

ROLES = ("study", "external", "contrast", "outside")
SHA256 = "^[0-9a-f]{64}$"
HEX64 = "^[0-9a-f]{16}$"
MAX_AGE = 120  # years
MIN_STD = 1e-6


@dataclass(frozen=True)
class Check:
    """A table, the columns that name its rows in messages, and its expectations."""

    name: str
    frame: pd.DataFrame
    named_by: tuple[str, ...]
    expectations: list[Any]


def all_checks(manifest: Manifest) -> list[Check]:
    """Return the checks of a manifest, without those whose table is empty."""
    import great_expectations.expectations as gxe

    images, folds = image_frame(manifest), manifest.info.folds
    by_image = ("image_id", "source_path")
    checks = [
        Check(
            "schema",
            column_frame(manifest),
            ("column",),
            [gxe.ExpectColumnPairValuesToBeEqual(column_A="stored_type", column_B="expected_type")],
        ),
        Check("images", images, by_image, _image_expectations(manifest)),
        Check("study folds", images[images["role"] == "study"], by_image, _role_expectations(range(folds))),
        Check("external folds", images[images["role"] == "external"], by_image, _role_expectations([OUTSIDE])),
        Check(
            "contrast folds",
            images[images["role"] == "contrast"],
            by_image,
            _role_expectations(range(folds), with_class=False),
        ),
        Check(
            "outside folds",
            images[images["role"] == "outside"],
            by_image,
            _role_expectations([OUTSIDE], with_class=False),
        ),
        Check(
            "classes",
            class_frame(manifest),
            ("label",),
            [
                gxe.ExpectColumnValuesToBeBetween(column="groups", min_value=folds),
                gxe.ExpectColumnValuesToBeInSet(column="grouped_folds", value_set=[folds]),
            ],
        ),
        Check(
            "counts",
            count_frame(manifest),
            ("label", "source"),
            [gxe.ExpectColumnPairValuesToBeEqual(column_A="counted", column_B="declared")],
        ),
        Check(
            "excluded",
            excluded_frame(manifest),
            ("source_path",),
            [
                gxe.ExpectTableRowCountToEqual(value=manifest.info.files - manifest.info.images),
                gxe.ExpectColumnValuesToBeUnique(column="source_path"),
                gxe.ExpectColumnValuesToBeInSet(column="reason", value_set=list(REASONS)),
                gxe.ExpectColumnValuesToBeInSet(column="also_in_manifest", value_set=[False]),
            ],
        ),
    ]
    return [check for check in checks if len(check.frame) or check.name in ("images", "excluded")]


def _image_expectations(manifest: Manifest) -> list[Any]:
    import great_expectations.expectations as gxe

    nullable = {field.name for field in manifest.schema if field.nullable}
    required = [name for name in manifest.table().column_names if name not in nullable]
    between, in_set = gxe.ExpectColumnValuesToBeBetween, gxe.ExpectColumnValuesToBeInSet
    return [
        gxe.ExpectTableRowCountToEqual(value=manifest.info.images),
        *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in required),
        gxe.ExpectColumnValuesToBeUnique(column="image_id"),
        gxe.ExpectColumnValuesToBeUnique(column="source_path"),
        gxe.ExpectColumnValuesToMatchRegex(column="image_id", regex=HEX64),
        gxe.ExpectColumnValuesToMatchRegex(column="phash", regex=HEX64),
        gxe.ExpectColumnValuesToMatchRegex(column="file_sha256", regex=SHA256),
        in_set(column="label", value_set=list(CLASSES)),
        in_set(column="reader_label", value_set=[*CLASSES, UNDECIDED]),
        in_set(column="role", value_set=list(ROLES)),
        in_set(column="sex", value_set=["M", "F"]),
        between(column="age", min_value=0, max_value=MAX_AGE),
        between(column="width", min_value=1),
        between(column="height", min_value=1),
        between(column="bit_depth", min_value=1, max_value=32),
        between(column="padding_fraction", min_value=0, max_value=1, strict_max=True),
        between(column="mean", min_value=0, max_value=1),
        between(column="std", min_value=MIN_STD, max_value=0.5),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="pixel_max", column_B="pixel_min"),
        gxe.ExpectColumnPairValuesToBeEqual(column_A="stored_pixel_sha256", column_B="pixel_sha256"),
        *(in_set(column=name, value_set=[1]) for name in ("folds_of_group", "groups_of_patient", "groups_of_pixels")),
    ]


def _role_expectations(folds: Iterable[int], with_class: bool = True) -> list[Any]:
    """Return what the images of one role must satisfy."""
    import great_expectations.expectations as gxe

    columns = ("fold_paper", "fold_grouped")
    label = gxe.ExpectColumnValuesToNotBeNull if with_class else gxe.ExpectColumnValuesToBeNull
    in_folds = [gxe.ExpectColumnValuesToBeInSet(column=name, value_set=list(folds)) for name in columns]
    return [label(column="label"), *in_folds]


def column_frame(manifest: Manifest) -> pd.DataFrame:
    """Return one row per column of the expected or the stored schema: its name, expected type and stored type."""
    size = manifest.info.config.decoding.image_size
    expected, stored = _types(manifest_schema(size)), _types(manifest.schema)
    names = list(dict.fromkeys([*expected, *stored]))
    rows = [(name, expected.get(name, "absent"), stored.get(name, "absent")) for name in names]
    return pd.DataFrame(rows, columns=["column", "expected_type", "stored_type"])


def _types(schema: Any) -> dict[str, str]:
    null = {True: "", False: " not null"}
    return {field.name: f"{i}: {field.type}{null[field.nullable]}" for i, field in enumerate(schema)}


def image_frame(manifest: Manifest) -> pd.DataFrame:
    """Return one row per image: every column but the pixels, and numbers that describe its pixels and group.

    pixel_min, pixel_max (0 to 255) and stored_pixel_sha256 are computed from the stored images, batch by batch;
    folds_of_group, groups_of_patient and groups_of_pixels are 1 if none of these is split.
    """
    frame: pd.DataFrame = manifest.table().to_pandas()
    frame["pixel_min"], frame["pixel_max"], frame["stored_pixel_sha256"] = zip(*_pixel_facts(manifest), strict=True)
    frame["folds_of_group"] = frame.groupby("group_id")["fold_grouped"].transform("nunique")
    frame["groups_of_patient"] = frame.groupby("patient_id")["group_id"].transform("nunique")
    frame["groups_of_pixels"] = frame.groupby("pixel_sha256")["group_id"].transform("nunique")
    return frame


def _pixel_facts(manifest: Manifest) -> Iterator[tuple[int, int, str]]:
    for batch in manifest.batches([PIXELS]):
        for image in pixels_to_numpy(batch[PIXELS]):
            yield int(image.min()), int(image.max()), hashlib.sha256(image.tobytes()).hexdigest()


def class_frame(manifest: Manifest) -> pd.DataFrame:
    """Return one row per class: the number of groups and of grouped folds of its study images."""
    images = manifest.table(["label", "role", "group_id", "fold_grouped"]).to_pandas()
    study = images[images["role"] == "study"].groupby("label")
    counted = study[["group_id", "fold_grouped"]].nunique().reindex(CLASSES, fill_value=0).reset_index()
    return pd.DataFrame(counted).set_axis(["label", "groups", "grouped_folds"], axis="columns")


def count_frame(manifest: Manifest) -> pd.DataFrame:
    """Return one row per class and source: images counted in the rows, and those declared in manifest.json."""
    table = manifest.table(["label", "source"])
    counted = _flatten(count_images(table["label"].to_pylist(), table["source"].to_pylist()))
    declared = _flatten(manifest.info.counts)
    rows = [(*key, counted.get(key, 0), declared.get(key, 0)) for key in sorted({*counted, *declared})]
    return pd.DataFrame(rows, columns=["label", "source", "counted", "declared"])


def _flatten(counts: dict[str, dict[str, int]]) -> dict[tuple[str, str], int]:
    return {(label, source): count for label, sources in counts.items() for source, count in sources.items()}


def excluded_frame(manifest: Manifest) -> pd.DataFrame:
    """Return excluded.parquet, and if the file is a row of the manifest as well."""
    excluded = manifest.excluded()
    images = manifest.table(["source_path"])["source_path"]
    frame: pd.DataFrame = excluded.to_pandas()
    frame["also_in_manifest"] = pc.is_in(excluded["source_path"], value_set=images).to_pandas()
    return frame
