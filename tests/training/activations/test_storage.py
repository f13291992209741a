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
    assert choose_storage(NIH, room, setting, progress) == (storage, None)  # type: ignore[arg-type]
    assert progress.messages[0].startswith("Frozen activations: 40 GiB for 112,120 images × 9 views")


@pytest.mark.parametrize(
    ("room", "setting"),
    [
        (Room(10 * GIB, 10 * GIB, 20 * GIB), "auto"),
        (Room(10 * GIB, 10 * GIB, 100 * GIB), "memory"),
        (Room(100 * GIB, 100 * GIB, 20 * GIB), "files"),
        (Room(10 * GIB, 10 * GIB, None, cache=1 * GIB), "auto"),
    ],
)
def test_a_study_that_fits_nowhere_is_refused_with_what_would_fit(room: Room, setting: str) -> None:
    with pytest.raises(
        ConfigError, match=r"40 GiB for 112,120 images.*Received: \d+ GiB of memory.*fewer --strategies"
    ):
        choose_storage(NIH, room, setting, RecordedProgress())  # type: ignore[arg-type]


def test_files_that_are_written_need_no_more_room(tmp_path: Path) -> None:
    files = replace(NIH, folder=tmp_path, shapes={"features": (1280,)})
    (tmp_path / "features").mkdir()
    for array in files.chunks("features").files[:400]:
        array.file.touch()
        os.truncate(array.file, array.file_bytes)
    little = Room(0.0, 0.0, 0.3 * GIB)  # 38 of 438 files are missing
    assert choose_storage(files, little, "auto", RecordedProgress()) == ("files", None)
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
    chosen, kept = choose_storage(NIH, ON_DISK, "auto", progress, compared(*rates))
    assert (chosen, kept) == (storage, ActivationRates(images_per_second=rates[0], bytes_per_second=rates[1]))
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
    assert choose_storage(NIH, room, setting, progress, never) == (storage, None)  # type: ignore[arg-type]
    assert "Measured" not in progress.messages[0]


def test_without_a_gpu_nothing_is_computed_again_unless_the_profile_says_so() -> None:
    progress = RecordedProgress()
    assert choose_storage(NIH, ON_DISK, "recompute", progress) == ("recompute", None)
    assert "computed in every step" in progress.messages[0]


def test_the_advice_names_a_number_of_views_that_fits() -> None:
    with pytest.raises(ConfigError, match=r"augmentation\.views = 3"):
        choose_storage(NIH, Room(1 * GIB, 1 * GIB, 20 * GIB), "auto", RecordedProgress())
    fits = replace(NIH, views=1 + 3)
    assert choose_storage(fits, Room(1 * GIB, 1 * GIB, 20 * GIB), "auto", RecordedProgress()) == ("files", None)
