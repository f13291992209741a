"""A manifest on disk for the images of a made-up study, each image with a grey of its own."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from cxr_platform.manifest.schema import PIXELS, manifest_schema
from cxr_platform.manifest.store import Manifest, open_manifest, write_images, write_info
from tests.manifest.info import manifest_info

SIDE = 8


def write_manifest(folder: Path, images: pd.DataFrame, content_hash: str = "b3f0c4de") -> Manifest:
    """The rows of `builders.image_frame` (role "study" unless a column says otherwise) as a manifest."""
    number = np.arange(len(images))
    frame = pd.DataFrame(
        {
            **{name: images[name].to_numpy() for name in ("image_id", "source", "label", "group_id")},
            "role": images.get("role", pd.Series("study", index=images.index)).to_numpy(),
            **{name: images["image_id"].to_numpy() for name in ("source_path", "file_sha256", "pixel_sha256", "phash")},
            "finding": images["label"].to_numpy(),
            "reader_label": images.get("reader_label", pd.Series(None, index=images.index, dtype=object)).to_numpy(),
            "reader_finding": images.get(
                "reader_finding", pd.Series(None, index=images.index, dtype=object)
            ).to_numpy(),
            "patient_id": images["group_id"].to_numpy(),
            "view": np.where(number % 3, "PA", None),
            "age": np.where(number % 2, 20 + number % 60, np.nan).astype(np.float32),
            "sex": np.where(number % 2, "F", None),
            **{name: np.full(len(images), 200, np.int32) for name in ("width", "height", "bit_depth")},
            "color_mode": "L",
            **{name: np.float32(0.5) for name in ("padding_fraction", "mean", "std")},
            "fold_paper": images["fold"].to_numpy(np.int32),
            "fold_grouped": images["fold"].to_numpy(np.int32),
        }
    )
    schema = manifest_schema(SIDE)
    rows = pa.Table.from_pandas(frame, schema=schema.remove(schema.get_field_index(PIXELS)), preserve_index=False)
    folder.mkdir(parents=True)
    write_images(folder, rows, lambda start, stop: grey(number[start:stop]), SIDE)
    excluded = {"low-contrast": 2, "view": 3}
    files = len(frame) + 5
    write_info(folder, manifest_info(content_hash=content_hash, images=len(frame), files=files, excluded=excluded))
    return open_manifest(folder)


def grey(number: np.ndarray) -> np.ndarray:
    """uint8 (n, SIDE, SIDE): the image at position i of the manifest is i modulo 251 all over."""
    return np.broadcast_to((number % 251).astype(np.uint8)[:, None, None], (len(number), SIDE, SIDE)).copy()


def rewritten(study: Path, **changes: object) -> Path:
    """Change fields of study.json; keys of the manifest by `manifest_NAME`."""
    path = study / "study.json"
    tree = json.loads(path.read_text())
    for name, value in changes.items():
        owner = tree["manifest"] if name.startswith("manifest_") else tree
        owner[name.removeprefix("manifest_")] = value
    path.write_text(json.dumps(tree))
    return study
