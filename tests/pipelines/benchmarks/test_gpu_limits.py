import pytest

from cxr_platform.config import ModelConfig
from cxr_platform.models.mobilenet import build_backbone
from pipelines.benchmarks.gpu_limits import PASSES, DeviceRates, Work, count_work, images_per_second, measure_rates


def test_mobilenet_at_200_px_takes_261_mmac_and_writes_5_and_a_half_million_values() -> None:
    work = count_work(build_backbone(ModelConfig(input_size=200)))
    assert work.macs / 1e6 == pytest.approx(261, abs=1)
    assert work.flop / 1e9 == pytest.approx(1.57, abs=0.01)
    assert work.outputs / 1e6 == pytest.approx(5.5, abs=0.1)


def test_each_limit_is_the_rate_of_the_device_over_the_work_of_an_image() -> None:
    work = Work(macs=10, outputs=5)
    bounds = images_per_second(work, DeviceRates(flop=600.0, moved_bytes=1400.0), bytes_per_value=2)
    assert bounds == {"arithmetic": 600 / 60, "memory": 1400 / (PASSES * 5 * 2)}


def test_the_rates_of_a_device_are_measured_on_it() -> None:
    rates = measure_rates("float32", side=64, megabytes=1)
    assert rates.flop > 1e6
    assert rates.moved_bytes > 1e6
