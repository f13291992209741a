"""The description of a manifest is valid, and mlcroissant reads the images back by it."""

import hashlib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from cxr_platform.labels import CLASSES
from cxr_platform.manifest import store
from cxr_platform.manifest.croissant import DESCRIPTIONS, croissant, write_croissant
from cxr_platform.manifest.schema import manifest_schema, without_pixels
from cxr_platform.manifest.store import Manifest, open_manifest, write_images, write_info
from tests.manifest.info import manifest_info

mlcroissant = pytest.importorskip("mlcroissant", reason="needs the extra croissant")

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")  # of rdflib, by mlcroissant

IMAGES, SIDE = 12, 4
TEXTS = (
    "source",
    "role",
    "source_path",
    "file_sha256",
    "pixel_sha256",
    "phash",
    "finding",
    "view",
    "sex",
    "color_mode",
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = tmp_path_factory.mktemp("manifest")
    number = np.arange(IMAGES)
    ids = [f"{i:016x}" for i in number]
    columns = {
        **dict.fromkeys(TEXTS, ["text"] * IMAGES),
        **{"image_id": ids, "group_id": ids, "label": [CLASSES[i % 7] if i else None for i in number]},
        **{name: number.astype(np.int32) for name in ("width", "height", "bit_depth", "fold_paper")},
        "fold_grouped": (number % 3).astype(np.int32),
        **{name: number.astype(np.float32) for name in ("padding_fraction", "mean", "std", "age")},
        **dict.fromkeys(("patient_id", "reader_label", "reader_finding"), [None] * IMAGES),
    }
    schema = without_pixels(manifest_schema(SIDE))
    rows = pa.table({field.name: pa.array(columns[field.name], field.type) for field in schema}, schema=schema)
    pixels = np.random.default_rng(1).integers(0, 256, (IMAGES, SIDE, SIDE)).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "ROWS_PER_FILE", 8)
        write_images(root, rows, lambda start, stop: pixels[start:stop], SIDE)
    counts = {"Covid19": {"cohen": IMAGES}}
    write_info(root, manifest_info(content_hash="abc", images=IMAGES, files=IMAGES, counts=counts, folds=3))
    return open_manifest(root)


def test_mlcroissant_finds_no_error_and_reads_every_image(manifest: Manifest) -> None:
    dataset = mlcroissant.Dataset(jsonld=str(write_croissant(manifest, "test")))

    assert not dataset.metadata.ctx.issues.errors
    records = {record["images/image_id"].decode(): record for record in dataset.records("images")}
    assert len(records) == IMAGES
    table = manifest.table(["image_id", "label", "fold_grouped"]).to_pylist()
    for row, image in zip(table, manifest.pixels(), strict=True):
        record = records[row["image_id"]]
        assert record["images/label"] == (row["label"] and row["label"].encode())
        assert record["images/fold_grouped"] == row["fold_grouped"]
        np.testing.assert_array_equal(np.ravel(record["images/pixels"]), image.ravel())
    assert [record["classes/label"] for record in dataset.records("classes")] == list(CLASSES)


def test_every_file_has_its_sha256_and_size(manifest: Manifest) -> None:
    files = [part for part in croissant(manifest, "test")["distribution"] if part["@type"] == "cr:FileObject"]
    assert [part["contentUrl"] for part in files] == ["images/part-00000.parquet", "images/part-00001.parquet"]
    for part in files:
        content = (manifest.folder / part["contentUrl"]).read_bytes()
        assert part["sha256"] == hashlib.sha256(content).hexdigest()
        assert part["contentSize"] == f"{len(content)} B"


def test_every_column_is_a_field_with_type_and_description(manifest: Manifest) -> None:
    tree = croissant(manifest, "test")
    fields = {field["name"]: field for field in tree["recordSet"][1]["field"]}
    assert list(fields) == manifest.schema.names == list(DESCRIPTIONS)
    assert all(field["description"] and field["dataType"] for field in fields.values())
    assert fields["pixels"]["cr:arrayShape"] == "4,4", fields["pixels"]
    assert fields["label"]["references"] == {"field": {"@id": "classes/label"}}
    assert "For research, not for diagnosis." in tree["description"]
    assert "12 frontal chest radiographs from cohen" in tree["description"]
    assert "folds that do not (fold_paper)" in tree["description"]


def test_radiographs_of_any_view_are_not_described_as_frontal(manifest: Manifest) -> None:
    selection = replace(manifest.info.config.selection, frontal_only=False)
    config = replace(manifest.info.config, selection=selection)
    any_view = replace(manifest, info=manifest.info.model_copy(update={"config": config}))
    assert "12 chest radiographs from cohen" in croissant(any_view, "test")["description"]
