from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cxr_platform.errors import FoldError, ManifestError
from cxr_platform.manifest.derived import pack_manifest, packed_quality, part_of_manifest, unpack_manifest
from cxr_platform.manifest.store import Manifest, open_manifest
from cxr_platform.manifest.validate import validate_manifest


def labels(manifest: Manifest) -> Counter[str]:
    return Counter(manifest.table(["label"])["label"].to_pylist())


def test_a_part_has_the_images_per_class_that_are_asked_for(built: Manifest, tmp_path: Path) -> None:
    part = part_of_manifest(built, tmp_path / "part", limit=3)
    assert set(labels(part).values()) == {3}
    assert part.info.images == 21 == sum(n for sources in part.info.counts.values() for n in sources.values())
    assert part.content_hash != built.content_hash
    everything = dict(zip(built.table(["image_id"])["image_id"].to_pylist(), built.pixels(), strict=True))
    ids = part.table(["image_id"])["image_id"].to_pylist()
    assert all(np.array_equal(everything[i], image) for i, image in zip(ids, part.pixels(), strict=True))
    assert built.info.excluded
    assert (part.info.files, part.info.excluded, part.info.shortfalls) == (21, {}, ())
    validate_manifest(part)


def test_a_part_is_split_into_the_folds_that_are_asked_for(built: Manifest, tmp_path: Path) -> None:
    part = part_of_manifest(built, tmp_path / "part", folds=3)
    assert part.info.folds == 3
    assert labels(part) == labels(built)
    assert set(part.table(["fold_grouped"])["fold_grouped"].to_pylist()) == {0, 1, 2}


def test_a_part_that_is_too_small_for_the_folds_is_refused(built: Manifest, tmp_path: Path) -> None:
    with pytest.raises(FoldError):
        part_of_manifest(built, tmp_path / "part", limit=2, folds=3)
    assert not (tmp_path / "part").exists()


def test_a_packed_manifest_has_the_same_rows_and_nearly_the_same_images(built: Manifest, tmp_path: Path) -> None:
    file = tmp_path / "images.parquet"
    pack_manifest(built, file, quality=95)
    assert packed_quality(file) == 95
    manifest = unpack_manifest(file, tmp_path / "manifest")
    columns = ["image_id", "label", "group_id", "fold_grouped", "fold_paper"]
    assert open_manifest(tmp_path / "manifest").table(columns) == built.table(columns)
    difference = np.abs(manifest.pixels().astype(int) - built.pixels())
    assert 0 < difference.mean() < 2
    validate_manifest(manifest)
    assert manifest.content_hash != built.content_hash, "other pixels are another manifest"
    assert file.stat().st_size < built.pixels().nbytes / 2


def test_another_file_is_no_packed_manifest(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ManifestError, match="another kind"):
        unpack_manifest(tmp_path / "a.parquet", tmp_path / "m")
    with pytest.raises(ManifestError, match="Expected a packed manifest"):
        packed_quality(tmp_path / "absent.parquet")
