import pytest

from cxr_platform.config import load_profile
from cxr_platform.domain.strategies import STRATEGY_NAMES
from cxr_platform.training.study_need import GIB, OBJECT_STORE_SHARE, PROCESS_GIB, study_need
from pipelines.benchmarks.page_sections import LARGEST_PROCESS_MIB

PAPER = load_profile("paper")


def test_a_study_of_all_images_of_nih_needs_the_activations_of_all_cuts() -> None:
    need = study_need(PAPER, STRATEGY_NAMES, 112_120, 1)
    assert need.activations * GIB / 112_120 == pytest.approx(1.35e6, rel=0.01)
    assert need.manifest == 112_120 * 200**2 / GIB
    assert need.volume == need.activations + need.manifest + need.trials


def test_the_cache_holds_the_images_and_what_the_trials_of_a_node_read_at_a_time() -> None:
    one, four = (study_need(PAPER, STRATEGY_NAMES, 112_120, trials) for trials in (1, 4))
    images = 112_120 * 200**2 / GIB
    assert four.cache - images == pytest.approx(4 * (one.cache - images))
    assert four.memory == 4 * one.memory


def test_scratch_alone_needs_no_activations() -> None:
    need = study_need(PAPER, ["scratch"], 1000, 1)
    assert (need.activations, need.cache) == (0.0, 1000 * 200**2 / GIB)
    assert need.trials > 0


def test_the_memory_of_a_process_is_the_limit_of_the_benchmark() -> None:
    assert PROCESS_GIB * 1024 == LARGEST_PROCESS_MIB
    assert study_need(PAPER, ["scratch"], 1000, 2).memory * (1 - OBJECT_STORE_SHARE) == pytest.approx(2 * PROCESS_GIB)
