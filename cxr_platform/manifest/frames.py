"""The tables over which the expectations of a manifest are checked, read back from what was written."""

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from cxr_platform.labels import CLASSES
from cxr_platform.manifest.rows import count_images
from cxr_platform.manifest.schema import PIXELS, manifest_schema, pixels_to_numpy
from cxr_platform.manifest.store import Manifest

if TYPE_CHECKING:
    import pandas as pd


def column_frame(manifest: Manifest) -> "pd.DataFrame":
    """One row a column of either schema: its name and place, the type it should have and the type it has."""
    import pandas as pd

    size = manifest.info["config"]["decoding"]["image_size"]
    expected, stored = _types(manifest_schema(size)), _types(manifest.schema)
    names = list(dict.fromkeys([*expected, *stored]))
    rows = [(name, expected.get(name, "absent"), stored.get(name, "absent")) for name in names]
    return pd.DataFrame(rows, columns=["column", "expected_type", "stored_type"])


def _types(schema: Any) -> dict[str, str]:
    null = {True: "", False: " not null"}
    return {field.name: f"{i}: {field.type}{null[field.nullable]}" for i, field in enumerate(schema)}


def image_frame(manifest: Manifest) -> "pd.DataFrame":
    """One row an image: every column but the pixels, and what can be said of pixels and groups by a number.

    pixel_min, pixel_max (0 to 255) and stored_pixel_sha256 come from a pass over the stored images, a batch at a time;
    folds_of_group, groups_of_patient and groups_of_pixels are 1 where nothing is on two sides.
    """
    frame = manifest.table().to_pandas()
    frame["pixel_min"], frame["pixel_max"], frame["stored_pixel_sha256"] = zip(*_pixel_facts(manifest), strict=True)
    frame["folds_of_group"] = frame.groupby("group_id")["fold_grouped"].transform("nunique")
    frame["groups_of_patient"] = frame.groupby("patient_id")["group_id"].transform("nunique")
    frame["groups_of_pixels"] = frame.groupby("pixel_sha256")["group_id"].transform("nunique")
    return frame


def _pixel_facts(manifest: Manifest) -> Iterator[tuple[int, int, str]]:
    for batch in manifest.batches([PIXELS]):
        for image in pixels_to_numpy(batch[PIXELS]):
            yield int(image.min()), int(image.max()), hashlib.sha256(image.tobytes()).hexdigest()


def class_frame(manifest: Manifest) -> "pd.DataFrame":
    """One row a class: in how many groups and in how many grouped folds its study images are."""
    import pandas as pd

    images = manifest.table(["label", "role", "group_id", "fold_grouped"]).to_pandas()
    study = images[images["role"] == "study"].groupby("label")
    counted = study[["group_id", "fold_grouped"]].nunique().reindex(CLASSES, fill_value=0).reset_index()
    return pd.DataFrame(counted).set_axis(["label", "groups", "grouped_folds"], axis="columns")


def count_frame(manifest: Manifest) -> "pd.DataFrame":
    """One row a class × source: images counted in the rows, and what manifest.json says."""
    import pandas as pd

    counted, declared = _flat(count_images(manifest.table(["label", "source"]))), _flat(manifest.info["counts"])
    rows = [(*key, counted.get(key, 0), declared.get(key, 0)) for key in sorted({*counted, *declared})]
    return pd.DataFrame(rows, columns=["label", "source", "counted", "declared"])


def _flat(counts: dict[str, dict[str, int]]) -> dict[tuple[str, str], int]:
    return {(label, source): count for label, sources in counts.items() for source, count in sources.items()}


def excluded_frame(manifest: Manifest) -> "pd.DataFrame":
    """excluded.parquet, and whether the file is a row of the manifest as well, which none may be."""
    excluded = manifest.excluded()
    taken = manifest.table(["source_path"])["source_path"]
    frame = excluded.to_pandas()
    frame["also_in_manifest"] = pc.is_in(excluded["source_path"], value_set=taken).to_pandas()
    return frame
