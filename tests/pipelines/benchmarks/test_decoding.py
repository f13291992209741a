from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cxr_platform.config import IntakeConfig
from cxr_platform.manifest import decoding
from pipelines.benchmarks.decoding import ROUNDS, Rates, measure_rates, opencv, pillow
from tests.intake.files import jpeg, png, thorax


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.png").write_bytes(png(thorax(300 + number)))
        (folder / f"{number}.jpg").write_bytes(jpeg(thorax(900 + number)))
    (folder / "notes.txt").write_text("no image\n")
    return folder


@pytest.mark.ray  # starts processes
def test_the_rates_of_all_steps_are_measured_on_the_images_of_a_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched, find = list[NDArray[np.uint8]](), decoding.find_keypoints

    def find_keypoints(image: NDArray[np.uint8]) -> object:
        searched.append(image)
        return find(image)

    monkeypatch.setattr(decoding, "find_keypoints", find_keypoints)
    rates = measure_rates(folder, IntakeConfig(), tmp_path / "cache", most=6)
    assert rates.files == 6
    assert min(rates.bare, *rates.ratios.values(), rates.two_processes) > 0
    assert len(searched) == ROUNDS * 6, "of the tasks in this process, one kind searches for keypoints"
    assert set(rates.libraries) <= {"PNG", "JPEG"}
    assert len(list((tmp_path / "cache").glob("*.parquet"))) >= 1


@pytest.mark.parametrize("encode", [png, jpeg])
def test_both_libraries_give_the_image_at_the_size_of_the_letterbox(encode: object) -> None:
    data = encode(thorax(840)[:, :630])  # type: ignore[operator]
    by_pillow, by_opencv = np.asarray(pillow(data, 200)), np.asarray(opencv(data, 200))
    assert by_pillow.shape == by_opencv.shape == (200, 150)
    assert np.abs(by_pillow.astype(int) - by_opencv).mean() < 4


def test_ratios_are_over_the_bare_loop() -> None:
    rates = Rates(10, bare=100, image=80, worker=70, worker_with_keypoints=40, two_processes=1.9, libraries={})
    assert rates.ratios == {"image": 0.8, "worker": 0.7, "worker_with_keypoints": 0.4}
