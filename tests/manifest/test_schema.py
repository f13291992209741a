from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cxr_platform.manifest.schema import (
    manifest_schema,
    pixel_type,
    pixels_to_arrow,
    pixels_to_numpy,
    without_pixels,
)

SCHEMA = manifest_schema(200)
DESIGN = (
    *("image_id", "source", "role", "source_path", "file_sha256", "pixel_sha256", "phash", "label", "finding"),
    *("patient_id", "group_id", "view", "age", "sex", "width", "height", "bit_depth", "color_mode"),
    *("padding_fraction", "mean", "std", "pixels", "fold_paper", "fold_grouped", "reader_label", "reader_finding"),
)


def test_the_columns_are_those_of_the_design_in_their_order() -> None:
    assert tuple(SCHEMA.names) == DESIGN


def test_pixels_are_arrows_fixed_shape_tensor_of_the_profiles_size() -> None:
    assert SCHEMA.field("pixels").type == pa.fixed_shape_tensor(pa.uint8(), [200, 200])
    assert manifest_schema(96).field("pixels").type == pa.fixed_shape_tensor(pa.uint8(), [96, 96])
    assert without_pixels(SCHEMA).names == [name for name in SCHEMA.names if name != "pixels"]


def test_images_survive_a_round_trip_through_parquet(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (7, 8, 8), np.uint8)
    pq.write_table(pa.table({"pixels": pixels_to_arrow(images)}), tmp_path / "f.parquet", row_group_size=3)
    column = pq.read_table(tmp_path / "f.parquet")["pixels"]
    assert column.type == pixel_type(8)
    assert np.array_equal(pixels_to_numpy(column), images)
    assert np.array_equal(pixels_to_numpy(column.slice(2, 3)), images[2:5])


def test_a_column_may_hold_no_images() -> None:
    column = pixels_to_arrow(np.empty((0, 8, 8), np.uint8))
    assert pixels_to_numpy(pa.chunked_array([column])).shape == (0, 8, 8)
