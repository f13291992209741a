"""Decoding and measuring files in parallel with Ray Data.

Pixels never pass through Ray's object store or the driver: each task writes its images into a shard of the cache and
returns small rows, so memory use does not grow with the number of files.
"""

import io
import json
import logging
import math
import os
import warnings
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from cxr_platform.cluster import connection
from cxr_platform.config import IntakeConfig
from cxr_platform.errors import ConfigError, ImageRefused, StorageError
from cxr_platform.intake.candidate import Candidate
from cxr_platform.intake.images import read_image
from cxr_platform.intake.keypoints import Keypoints, find_keypoints
from cxr_platform.intake.letterbox import without_padding
from cxr_platform.manifest.cache import DecodedCache, write_shard
from cxr_platform.manifest.contact_sheets import IMAGES_PER_SHEET
from cxr_platform.manifest.patient_ids import header_pseudonym
from cxr_platform.manifest.records import (
    RECORD_SCHEMA,
    Decoded,
    FileKey,
    file_key,
    image_facts,
    records_from_table,
    records_to_table,
)
from cxr_platform.progress import Progress
from cxr_platform.storage.files import read_errors, write_errors
from cxr_platform.storage.paths import parse_path
from cxr_platform.storage.retry import with_retries

if TYPE_CHECKING:
    from ray.data import Dataset

File = tuple[Candidate, FileKey]
BLOCK_SIZES = (128, 16, 1)
"""Files per task. Files of a task whose process died are tried again in smaller blocks, at last one by one."""

MIN_BLOCKS = 8  # a small collection keeps every processor busy, too
SLOW_TO_START = (".dcm", ".dicom", "")  # some DICOM imports TensorFlow: in as few processes as possible
FAILURE = "failure"
NO_RECORD = Decoded(FileKey("", -1, -1), None, FAILURE, "")
DIED = "the process that decoded it died, at each attempt"
ANSWER_SECONDS = 60.0
"""Longest time in which a node that is alive starts a process."""

CANARY = "canary.png"
CANARY_PIXELS = 64


@dataclass(frozen=True)
class DecodeTask:
    """Decodes one block of files into one shard, in a Ray worker that can read the files and write the cache folder."""

    config: IntakeConfig
    salt: str
    cache: Path

    def __call__(self, block: pa.Table) -> pa.Table:
        """Return rows of `RECORD_SCHEMA`, shard and failure, from rows of path, source, source_path, size, mtime_ns.

        A `StorageError` is returned as `failure`, in a single row, because an exception counts as a process that died.
        """
        size = self.config.decoding.image_size
        pixels = np.zeros((block.num_rows, size, size), np.uint8)
        cv2.setNumThreads(1)  # Ray starts a task per core
        try:
            records = [self._decode(row, pixels[i]) for i, row in enumerate(block.to_pylist())]
            keypoints = [self._keypoints(record, image) for record, image in zip(records, pixels, strict=True)]
            return _result(records, write_shard(self.cache, records, pixels, keypoints), "")
        except StorageError as error:
            return _result([NO_RECORD], "", json.dumps([error.problem, str(error.received), error.advice]))

    def _decode(self, row: dict[str, Any], pixels: npt.NDArray[np.uint8]) -> Decoded:
        key = FileKey(row["source_path"], row["size"], row["mtime_ns"])
        try:
            data = self._read(parse_path(os.fsdecode(row["path"])), key.size)
            image = read_image(data, self.config)
        except StorageError:  # of an object store: the image is not at fault
            raise
        except ImageRefused as refused:
            return Decoded(key, None, refused.reason, refused.detail)
        except OSError as error:
            return Decoded(key, None, "unreadable", error.strerror or str(error))
        except Exception as error:  # one damaged file must not end a build of a hundred thousand
            return Decoded(key, None, "undecodable", f"{type(error).__name__}: {error}")
        pixels[:] = image.pixels
        # Origins are stated beside the images, and may change without them: the cache has what is needed for any.
        patient, anywhere = (header_pseudonym(self.salt, space, image.patient) for space in (row["source"], ""))
        return Decoded(key, image_facts(image, data, patient, anywhere), None, "")

    def _keypoints(self, record: Decoded, pixels: npt.NDArray[np.uint8]) -> Keypoints | None:
        facts = record.facts if self.config.selection.find_crops else None
        return find_keypoints(without_padding(pixels, facts.width, facts.height)) if facts else None

    def _read(self, path: Path, size: int) -> bytes:
        limit = self.config.decoding.max_bytes
        if size > limit:
            raise ImageRefused("too-large", f"{size:,} bytes, the limit is {limit:,} bytes")
        with read_errors(path, remote_only=True):
            return with_retries(path, path.read_bytes)


def _result(records: list[Decoded], shard: str, failure: str) -> pa.Table:
    table = records_to_table(records).append_column("shard", pa.array([shard] * len(records)))
    return table.append_column(FAILURE, pa.array([failure] * len(records)))


def decode_new(
    candidates: Sequence[Candidate],
    cache: DecodedCache,
    task: DecodeTask,
    progress: Progress,
    address: str | None = None,
) -> dict[str, Decoded]:
    """Return the result for each file by source_path, from the cache or decoded now on the Ray cluster at `address`.

    Of the files that their collection's table excludes, only those on a contact sheet are opened.
    """
    files = [(candidate, file_key(candidate)) for candidate in _needed(candidates)]
    stored = cache.load()
    decoded = {key.source_path: stored[key] for _, key in files if key in stored}
    new = [file for file in files if file[1] not in stored]
    progress.message(f"Images: {len(new)} to decode, {len(decoded)} from the cache")
    done = 0
    for block in decode_files(new, task, address) if new else ():  # nothing to do needs no cluster
        done += len(block)
        decoded.update((record.key.source_path, record) for record in block)
        progress.step("Decoding", done, len(new))
    return decoded


def _needed(candidates: Sequence[Candidate]) -> Iterator[Candidate]:
    shown: Counter[str] = Counter()
    for candidate in sorted(candidates, key=lambda candidate: candidate.source_path):
        if candidate.refusal is not None:
            shown[candidate.refusal.reason] += 1
        if candidate.refusal is None or shown[candidate.refusal.reason] <= IMAGES_PER_SHEET:
            yield candidate


def decode_files(files: Sequence[File], task: DecodeTask, address: str | None = None) -> Iterator[list[Decoded]]:
    """Decode every file on the Ray cluster at `address` (see `cluster.connection`) and yield blocks as they finish.

    A file that is no usable image, or on which the decoding process dies, is a `Decoded` with a reason; one that was
    lost with its node is decoded on another one. Raises `StorageError` if the cache cannot be written or an object
    store does not answer, `ConfigError` if the workers fail on every file.
    """
    left = {key.source_path: (candidate, key) for candidate, key in files}
    with connection(address):
        for size in BLOCK_SIZES:
            again = bool(left)
            while again:
                again = yield from _decode_round(left, size, task)
        if left and len(left) == len(files):
            _check_workers(task)
    keys = [key for _, key in left.values()]
    for start in range(0, len(keys), BLOCK_SIZES[0]):
        yield _undecodable(keys[start : start + BLOCK_SIZES[0]], task)


def _decode_round(left: dict[str, File], size: int, task: DecodeTask) -> Generator[list[Decoded], None, bool]:
    """Decode `left` in blocks of `size` and take out what is yielded; return True to try the rest in that size again.

    Files that stay killed their process, or were in blocks of a lost node, which smaller blocks decode; of the smallest
    none may be taken for the former that is the latter.
    """
    from ray.exceptions import ObjectLostError

    nodes = _alive_nodes()
    try:
        for block in _run_blocks(list(left.values()), size, task):
            for record in block:
                left.pop(record.key.source_path)
            yield block
    except ObjectLostError:  # the rows of a block, with the node that decoded it
        return bool(left)
    return bool(left) and size == BLOCK_SIZES[-1] and _lost_one_of(nodes)


def _alive_nodes() -> set[str]:
    import ray

    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _lost_one_of(nodes: Iterable[str]) -> bool:
    """Return True if one of `nodes` answers no more: Ray fails its tasks before it knows that the node is lost."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    answer = ray.remote(num_cpus=0, max_retries=0)(_answer)
    for node in nodes:
        there = answer.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
        try:
            ray.get(there.remote(), timeout=ANSWER_SECONDS)
        except ray.exceptions.RayError:
            return True
    return False


def _answer() -> None:
    """Return: the node runs tasks."""


def _check_workers(task: DecodeTask) -> None:
    """Raise `ConfigError` if the workers fail on a valid image, too, so that the files are not at fault."""
    canary = task.cache / CANARY
    image = io.BytesIO()
    Image.new("L", (CANARY_PIXELS, CANARY_PIXELS)).save(image, "PNG")
    with write_errors(task.cache):
        try:
            canary.write_bytes(image.getvalue())
            candidate = Candidate("", canary, CANARY)
            alive = list(_run_blocks([(candidate, file_key(candidate))], 1, task))
        finally:
            canary.unlink(missing_ok=True)
    if not alive:
        raise ConfigError(
            "Expected Ray's workers to decode the images.",
            received="a process that died for every file",
            advice="They need this package, the images and the manifest's folder under the same paths; see Ray's logs.",
        )


def _undecodable(keys: Sequence[FileKey], task: DecodeTask) -> list[Decoded]:
    """Return the records of files on which every process died, and cache them: the next build does not try them."""
    size = task.config.decoding.image_size
    records = [Decoded(key, None, "undecodable", DIED, row=row) for row, key in enumerate(keys)]
    shard = write_shard(task.cache, records, np.zeros((len(keys), size, size), np.uint8))
    return [record._replace(shard=shard) for record in records]


def _run_blocks(files: Sequence[File], size: int, task: DecodeTask) -> Iterator[list[Decoded]]:
    with warnings.catch_warnings():
        # `max_retries` has no other way in; without it a file that kills its process is tried forever.
        warnings.simplefilter("ignore", DeprecationWarning)
        dataset = _dataset(files, size).map_batches(task, batch_size=None, batch_format="pyarrow", max_retries=0)
    for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        shard, failure = block["shard"][0].as_py(), block[FAILURE][0].as_py()
        if failure:
            problem, received, advice = json.loads(failure)
            raise StorageError(problem, received=received, advice=advice)
        yield list(records_from_table(block.select(RECORD_SCHEMA.names), shard))


def _dataset(files: Sequence[File], size: int) -> "Dataset":
    import ray.data

    _configure_ray_data()
    ordered = sorted(files, key=lambda file: (file[0].path.suffix.lower() in SLOW_TO_START, file[1].source_path))
    # Bytes, because a file's name need not be UTF-8, which Arrow's strings are.
    rows = [{"path": os.fsencode(str(c.path)), "source": c.source, **key._asdict()} for c, key in ordered]
    blocks = max(math.ceil(len(rows) / size), min(len(rows), MIN_BLOCKS))
    return ray.data.from_items(rows, override_num_blocks=blocks)


def _configure_ray_data() -> None:
    from ray.data import DataContext

    with warnings.catch_warnings():
        # The context sets its own deprecated fields when it is made.
        warnings.simplefilter("ignore", DeprecationWarning)
        context = DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # the rest goes on; `decode_files` sees what is missing
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
