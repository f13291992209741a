"""What every manifest must satisfy, as Great Expectations suites."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cxr_platform.intake.candidate import REASONS
from cxr_platform.labels import CLASSES
from cxr_platform.manifest.folds import OUTSIDE
from cxr_platform.manifest.frames import class_frame, column_frame, count_frame, excluded_frame, image_frame
from cxr_platform.manifest.store import Manifest

if TYPE_CHECKING:
    import pandas as pd

ROLES = ("study", "external")
SHA256 = "^[0-9a-f]{64}$"
HEX64 = "^[0-9a-f]{16}$"
OLDEST_YEARS = 120
SMALLEST_STD = 1e-6


@dataclass(frozen=True)
class Check:
    """One table, the columns by which its rows are named to a person, and what is expected of it."""

    name: str
    frame: "pd.DataFrame"
    named_by: tuple[str, ...]
    expectations: list[Any]


def all_checks(manifest: Manifest) -> list[Check]:
    """The checks of a manifest; those of external images only where there are any."""
    images = image_frame(manifest)
    folds = range(manifest.info["folds"])
    by_image = ("image_id", "source_path")
    checks = [
        Check("schema", column_frame(manifest), ("column",), _schema()),
        Check("images", images, by_image, [*_identity(manifest), *_ranges(), *_pixels(), *_groups()]),
        Check("study folds", images[images["role"] == "study"], by_image, _folds(list(folds))),
        Check("external folds", images[images["role"] == "external"], by_image, _folds([OUTSIDE])),
        Check("classes", class_frame(manifest), ("label",), _classes(manifest.info["folds"])),
        Check("counts", count_frame(manifest), ("label", "source"), _counts()),
        Check("excluded", excluded_frame(manifest), ("source_path",), _excluded(manifest)),
    ]
    return [check for check in checks if len(check.frame) or check.name == "images"]


def _schema() -> list[Any]:
    import great_expectations.expectations as gxe

    return [gxe.ExpectColumnPairValuesToBeEqual(column_A="stored_type", column_B="expected_type")]


def _identity(manifest: Manifest) -> list[Any]:
    import great_expectations.expectations as gxe

    nullable = {field.name for field in manifest.schema if field.nullable}
    return [
        gxe.ExpectTableRowCountToEqual(value=manifest.info["images"]),
        *(gxe.ExpectColumnValuesToNotBeNull(column=n) for n in manifest.table().column_names if n not in nullable),
        gxe.ExpectColumnValuesToBeUnique(column="image_id"),
        gxe.ExpectColumnValuesToBeUnique(column="source_path"),
        gxe.ExpectColumnValuesToMatchRegex(column="image_id", regex=HEX64),
        gxe.ExpectColumnValuesToMatchRegex(column="phash", regex=HEX64),
        gxe.ExpectColumnValuesToMatchRegex(column="file_sha256", regex=SHA256),
        gxe.ExpectColumnValuesToBeInSet(column="label", value_set=list(CLASSES)),
        gxe.ExpectColumnValuesToBeInSet(column="role", value_set=list(ROLES)),
        gxe.ExpectColumnValuesToBeInSet(column="sex", value_set=["M", "F"]),
    ]


def _ranges() -> list[Any]:
    import great_expectations.expectations as gxe

    between = gxe.ExpectColumnValuesToBeBetween
    return [
        between(column="age", min_value=0, max_value=OLDEST_YEARS),
        between(column="width", min_value=1),
        between(column="height", min_value=1),
        between(column="bit_depth", min_value=1, max_value=32),
        between(column="padding_fraction", min_value=0, max_value=1, strict_max=True),
        between(column="mean", min_value=0, max_value=1),
        between(column="std", min_value=SMALLEST_STD, max_value=0.5),
    ]


def _pixels() -> list[Any]:
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="pixel_max", column_B="pixel_min"),
        gxe.ExpectColumnPairValuesToBeEqual(column_A="stored_pixel_sha256", column_B="pixel_sha256"),
    ]


def _groups() -> list[Any]:
    import great_expectations.expectations as gxe

    one = ("folds_of_group", "groups_of_patient", "groups_of_pixels")
    return [gxe.ExpectColumnValuesToBeInSet(column=name, value_set=[1]) for name in one]


def _folds(values: list[int]) -> list[Any]:
    import great_expectations.expectations as gxe

    columns = ("fold_paper", "fold_grouped")
    return [gxe.ExpectColumnValuesToBeInSet(column=name, value_set=values) for name in columns]


def _classes(folds: int) -> list[Any]:
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(column="groups", min_value=folds),
        gxe.ExpectColumnValuesToBeInSet(column="grouped_folds", value_set=[folds]),
    ]


def _counts() -> list[Any]:
    import great_expectations.expectations as gxe

    return [gxe.ExpectColumnPairValuesToBeEqual(column_A="counted", column_B="declared")]


def _excluded(manifest: Manifest) -> list[Any]:
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectTableRowCountToEqual(value=manifest.info["found"] - manifest.info["images"]),
        gxe.ExpectColumnValuesToBeUnique(column="source_path"),
        gxe.ExpectColumnValuesToBeInSet(column="reason", value_set=list(REASONS)),
        gxe.ExpectColumnValuesToBeInSet(column="also_in_manifest", value_set=[False]),
    ]
