import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cxr_platform.config import ModelConfig
from cxr_platform.domain.study import ActivationRates
from cxr_platform.errors import ConfigError
from cxr_platform.storage.node_cache import NodeCache
from cxr_platform.training.activations.files import ActivationFiles
from cxr_platform.training.activations.rates import StorageSeconds, storage_seconds
from cxr_platform.training.activations.storage import (
    Room,
    StorageNeed,
    activation_shapes,
    choose_storage,
    gib,
    planned_files,
)
from tests.recorded_progress import RecordedProgress
from tests.training.builders import tiny_study

GIB = 2.0**30
NIH = ActivationFiles(
    Path("activations"), {"block_5": (25, 25, 32), "features": (1280,)}, 9, 112_120, seed=0, cache=NodeCache()
)
"""All of NIH's images in the paper's profile, for two cuts: 38 and 2.4 GiB."""


def test_the_shapes_are_those_of_the_network() -> None:
    shapes = activation_shapes(("features", "block_5", "block_15"), ModelConfig(input_size=200))
    assert shapes == {"features": (1280,), "block_5": (25, 25, 32), "block_15": (7, 7, 160)}


def test_the_files_of_a_study_have_the_views_of_its_profile(tmp_path: Path) -> None:
    files = planned_files(tiny_study(tmp_path, ("off-the-shelf",)), ("features",))
    assert (files.views, files.count, files.shapes) == (2, 56, {"features": (1280,)})
    assert files.folder.parent == tmp_path / "activations"


def test_the_need_is_known_before_anything_is_computed() -> None:
    need = StorageNeed.of(NIH)
    assert need.of_cut("block_5") == 112_120 * 9 * 25 * 25 * 32 * 2
    assert need.total == need.of_cut("block_5") + need.of_cut("features")
    assert need.at_once == 17 * 256 * 9 * 40_000
    assert str(need) == "40 GiB for 112,120 images × 9 views (block_5 37.6 GiB, features 2.41 GiB)"


@pytest.mark.parametrize(
    ("room", "setting", "storage"),
    [
        (Room(50 * GIB, 50 * GIB, 0.0), "auto", "memory"),
        (Room(50 * GIB, 20 * GIB, 50 * GIB), "auto", "files"),  # a node that trains has no room for one cut
        (Room(20 * GIB, 50 * GIB, 50 * GIB), "auto", "files"),
        (Room(50 * GIB, 50 * GIB, 50 * GIB), "files", "files"),
        (Room(1 * GIB, 1 * GIB, None, cache=2 * GIB), "auto", "files"),  # an object store
    ],
)
def test_activations_stay_in_memory_where_they_fit(room: Room, setting: str, storage: str) -> None:
    progress = RecordedProgress()
    choice = choose_storage(NIH, room, setting, progress)  # type: ignore[arg-type]
    assert (choice.storage, choice.rates) == (storage, None)
    assert progress.messages[0].startswith("Frozen activations: 40 GiB for 112,120 images × 9 views")


ON_S3 = Room(10 * GIB, 10 * GIB, None, cache=1 * GIB)


@pytest.mark.parametrize(
    ("room", "setting", "received", "advice"),
    [
        (
            Room(10 * GIB, 100 * GIB, 20 * GIB),
            "auto",
            "10 GiB of memory, where 40 GiB are needed; 20 GiB on the disk of the storage beside trials and images, "
            "where 40 GiB are needed",
            "fewer --strategies at a time, more memory, a --storage with more room, in a study of another "
            '--name augmentation.views = 3 or a smaller --input-size, or set resources.activations = "recompute"',
        ),
        (
            Room(100 * GIB, 10 * GIB, 0.0),
            "memory",
            "10 GiB of memory for one cut, where 37.6 GiB are needed",
            "more memory, in a study of another --name augmentation.views = 1 or",
        ),
        (Room(1 * GIB, 1 * GIB, 100 * GIB), "memory", "1 GiB of memory", 'activations = "files" or "recompute"'),
        (Room(100 * GIB, 100 * GIB, 20 * GIB), "files", "20 GiB on the disk", 'activations = "memory" or "recompute"'),
        (
            ON_S3,
            "files",
            "1 GiB of a trial's part of a node's cache, where 1.46 GiB are needed",
            "a larger resources.cache_gib or CXR_CACHE_GIB, in a study of another --name augmentation.views = 5 or",
        ),
        (
            Room(0.0, 0.0, 0.0),
            "auto",
            "0 GiB of memory",
            "in a study of another --name a smaller --input-size",
        ),
    ],
)
def test_a_study_that_fits_nowhere_is_refused_with_what_would_fit(
    room: Room, setting: str, received: str, advice: str
) -> None:
    with pytest.raises(ConfigError, match=r"40 GiB for 112,120 images") as refused:
        choose_storage(NIH, room, setting, RecordedProgress())  # type: ignore[arg-type]
    assert str(refused.value.received).startswith(received)
    assert advice in refused.value.advice


def test_a_number_of_views_that_is_advised_fits() -> None:
    for room, views in ((Room(1 * GIB, 1 * GIB, 20 * GIB), 3), (ON_S3, 5)):
        with pytest.raises(ConfigError, match=rf"augmentation\.views = {views} "):
            choose_storage(NIH, room, "auto", RecordedProgress())
        assert choose_storage(replace(NIH, views=1 + views), room, "auto", RecordedProgress()).storage == "files"
        with pytest.raises(ConfigError):
            choose_storage(replace(NIH, views=2 + views), room, "auto", RecordedProgress())


def test_fewer_views_are_not_advised_where_they_would_not_do() -> None:
    written = Room(1 * GIB, 1 * GIB, 20 * GIB)
    with pytest.raises(ConfigError) as refused:
        choose_storage(replace(NIH, views=1), written, "memory", RecordedProgress())
    assert "augmentation.views" not in refused.value.advice


@pytest.mark.parametrize(
    ("size", "text"), [(GIB / 3, "0.333"), (40 * GIB, "40"), (999.7 * GIB, "1,000"), (2048 * GIB, "2,048")]
)
def test_sizes_are_written_without_powers_of_ten(size: float, text: str) -> None:
    assert gib(size) == f"{text} GiB"


def test_files_that_are_written_need_no_more_room(tmp_path: Path) -> None:
    files = replace(NIH, folder=tmp_path, shapes={"features": (1280,)})
    (tmp_path / "features").mkdir()
    for array in files.of_cut("features").files[:400]:
        array.file.touch()
        os.truncate(array.file, array.file_bytes)
    little = Room(0.0, 0.0, 0.3 * GIB)  # 38 of 438 files are missing
    choice = choose_storage(files, little, "auto", RecordedProgress())
    assert choice.storage == "files"
    assert choice.left.disk == pytest.approx(little.disk - (NIH.count - 400 * 256) * 9 * 1280 * 2)  # type: ignore[operator]
    with pytest.raises(ConfigError):
        choose_storage(replace(files, folder=tmp_path / "none"), little, "auto", RecordedProgress())


def compared(images_per_second: float, bytes_per_second: float) -> Callable[[StorageNeed, float], StorageSeconds]:
    """Compare with given rates, for trials that read each image 300 times at each of two cuts."""
    rates = ActivationRates(images_per_second=images_per_second, bytes_per_second=bytes_per_second)
    return lambda need, missing: storage_seconds(need, missing, dict.fromkeys(need.per_view, 300.0), rates)


ON_DISK = Room(1 * GIB, 1 * GIB, 100 * GIB)


@pytest.mark.parametrize(
    ("rates", "storage"),
    [
        ((2000.0, 500 * 2.0**20), "files"),  # 0.9 h of reading, 9 h of computing
        ((2000.0, 30 * 2.0**20), "recompute"),  # a slow disk
        ((50_000.0, 500 * 2.0**20), "recompute"),  # a fast GPU
    ],
)
def test_with_a_gpu_what_is_faster_by_measured_rates_is_chosen(rates: tuple[float, float], storage: str) -> None:
    progress = RecordedProgress()
    choice = choose_storage(NIH, ON_DISK, "auto", progress, compared(*rates))
    assert choice.storage == storage
    assert choice.rates == ActivationRates(images_per_second=rates[0], bytes_per_second=rates[1])
    assert f"Measured: {rates[0]:,.0f} images/s through the frozen layers" in progress.messages[0]


def never(_need: StorageNeed, _missing: float) -> StorageSeconds:
    raise AssertionError("nothing to compare")


@pytest.mark.parametrize(
    ("room", "setting", "storage"),
    [
        (Room(50 * GIB, 50 * GIB, 100 * GIB), "auto", "memory"),
        (Room(1 * GIB, 1 * GIB, 1 * GIB), "auto", "recompute"),
        (ON_DISK, "files", "files"),
        (ON_DISK, "recompute", "recompute"),
    ],
)
def test_nothing_is_measured_where_memory_room_or_the_profile_decides(room: Room, setting: str, storage: str) -> None:
    progress = RecordedProgress()
    choice = choose_storage(NIH, room, setting, progress, never)  # type: ignore[arg-type]
    assert (choice.storage, choice.rates) == (storage, None)
    assert "Measured" not in progress.messages[0]


def test_without_a_gpu_nothing_is_computed_again_unless_the_profile_says_so() -> None:
    progress = RecordedProgress()
    assert choose_storage(NIH, ON_DISK, "recompute", progress).storage == "recompute"
    assert "computed in every step" in progress.messages[0]
