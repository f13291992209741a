import itertools
import multiprocessing
import os
import shutil
from pathlib import Path

import pytest

from cxr_platform.errors import BundleError, PromotionRefused, RegistryError
from cxr_platform.registry.bundle import ONNX
from cxr_platform.registry.bundle_comparison import BundleComparison
from cxr_platform.registry.promotion import promote, rollback
from cxr_platform.registry.store import Registry
from tests.registry.builders import filler, make_registry
from tests.registry.processes import SPAWN, exit_codes


def promote_after(root: Path, version: str, start: "multiprocessing.synchronize.Barrier") -> None:
    start.wait(60)
    try:
        promote(Registry(root), version)
    except PromotionRefused:
        os._exit(3)


def promote_back_and_forth(root: Path, versions: list[str]) -> None:
    for version in versions * 5:
        promote(Registry(root), version, force=True)


def die_before_a_rename(root: Path, renames: int) -> None:
    """Exit before one of the two renames of a change: of the previous state, then of the new one."""
    done, replace = itertools.count(), Path.replace

    def die(path: Path, target: Path) -> Path:
        return replace(path, target) if next(done) < renames else os._exit(9)

    Path.replace = die  # type: ignore[assignment, method-assign]
    promote(Registry(root), "v2")


def test_a_promotion_records_the_champion_and_its_effective_time(tmp_path):
    registry = make_registry(tmp_path, 80)
    event = promote(registry, "v1", lead_seconds=7.5).event
    lead = event.effective_at - event.at

    assert registry.champion() == "v1"
    assert registry.open()[1].version == "v1"
    assert registry.state().history == (event,)
    assert (event.action, event.forced, lead.total_seconds()) == ("promote", False, 7.5)


def test_a_better_version_is_promoted_and_a_worse_one_is_refused_with_its_metrics(tmp_path):
    registry = make_registry(tmp_path, 80, 85, 79)
    promote(registry, "v1")
    promote(registry, "v2")
    before = registry.state()

    with pytest.raises(PromotionRefused) as refusal:
        promote(registry, "v3")

    assert "79.00" in str(refusal.value)
    assert "85.00" in str(refusal.value)
    assert "--force" in refusal.value.advice
    assert registry.state() == before


def test_force_promotes_a_worse_version_and_is_recorded(tmp_path):
    registry = make_registry(tmp_path, 80, 79, 81)
    promote(registry, "v1")

    event = promote(registry, "v2", force=True).event
    assert event.forced
    assert "worse" in event.reason
    assert not promote(registry, "v3", force=True).event.forced


def test_a_network_no_better_than_the_most_frequent_class_is_promoted_with_force_only(tmp_path):
    registry = Registry(tmp_path)
    registry.add(filler(accuracy=26.5))  # its interval begins at 24.5 %, the most frequent class has 25 %
    with pytest.raises(PromotionRefused, match=r"most frequent class.*25\.00 %.*26\.50 \(24\.50 to 28\.50\).*--force"):
        promote(registry, "v1")
    assert registry.champion() is None
    promotion = promote(registry, "v1", force=True)
    assert promotion.event.forced
    assert registry.champion() == "v1"


def test_the_comparison_is_passed_on_before_the_refusal(tmp_path):
    registry = make_registry(tmp_path, 80, 79)
    promote(registry, "v1")
    comparisons: list[BundleComparison] = []

    with pytest.raises(PromotionRefused):
        promote(registry, "v2", on_comparison=comparisons.append)
    assert [(c.new, c.present, c.worse) for c in comparisons] == [("v2", "v1", True)]


def test_the_champion_is_not_promoted_again(tmp_path):
    registry = make_registry(tmp_path, 80)
    promote(registry, "v1")

    for version in ("v1", "champion"):
        with pytest.raises(PromotionRefused, match="not the champion"):
            promote(registry, version, force=True)


@pytest.mark.parametrize("lead", [-1.0, float("nan"), float("inf"), 1e6])
def test_a_lead_out_of_range_is_an_error(tmp_path, lead):
    registry = make_registry(tmp_path, 80)
    with pytest.raises(RegistryError, match="lead"):
        promote(registry, "v1", lead_seconds=lead)
    with pytest.raises(RegistryError, match="lead"):
        rollback(registry, lead)


def test_a_changed_bundle_is_not_promoted_even_with_force(tmp_path):
    registry = make_registry(tmp_path, 80)
    (tmp_path / "v1" / ONNX).write_bytes(b"x")

    with pytest.raises(BundleError, match=r"model\.onnx"):
        promote(registry, "v1", force=True)
    assert registry.champion() is None


def test_a_champion_that_cannot_be_read_is_replaced_with_force_only(tmp_path):
    registry = make_registry(tmp_path, 80, 81, 82)
    promote(registry, "v1")
    promote(registry, "v2")
    shutil.rmtree(tmp_path / "v2")

    with pytest.raises(PromotionRefused, match="rollback"):
        promote(registry, "v3")
    forced = promote(registry, "v3", force=True)
    assert forced.comparison is None
    assert forced.event.forced

    with pytest.raises(BundleError, match="v2"):
        rollback(registry)
    assert registry.champion() == "v3"


def test_rollbacks_restore_earlier_champions_until_there_is_none(tmp_path):
    registry = make_registry(tmp_path, 80, 81, 82)
    for version in ("v1", "v2", "v3"):
        promote(registry, version)

    assert rollback(registry).version == "v2"
    assert rollback(registry).version == "v1"
    with pytest.raises(RegistryError, match="Expected a champion before v1"):
        rollback(registry)
    promote(registry, "v3")
    assert rollback(registry, lead_seconds=0).version == "v1"
    assert [e.action for e in registry.state().history].count("rollback") == 3


def test_a_rollback_without_a_champion_is_an_error(tmp_path):
    with pytest.raises(RegistryError, match="Expected a champion"):
        rollback(make_registry(tmp_path, 80))


def test_promoting_in_a_folder_that_does_not_exist_does_not_create_it(tmp_path):
    with pytest.raises(RegistryError, match="no such folder"):
        promote(Registry(tmp_path / "absent"), "v1")
    assert not (tmp_path / "absent").exists()


def test_adding_a_version_does_not_change_the_champion(tmp_path):
    registry = make_registry(tmp_path, 80)
    promote(registry, "v1")
    registry.add(filler(accuracy=99.0))

    assert registry.champion() == "v1"


def test_of_two_simultaneous_promotions_the_second_is_compared_with_the_first(tmp_path):
    """Unless they were serialised, both would find 80 as champion, and 82 could end up replaced by 81."""
    for attempt in range(3):
        root = tmp_path / str(attempt)
        registry, start = make_registry(root, 80, 81, 82), SPAWN.Barrier(2)
        promote(registry, "v1")
        first, _ = exit_codes(promote_after, [(root, version, start) for version in ("v2", "v3")])
        line = [event.version for event in registry.state().history]

        assert registry.champion() == "v3"
        assert (line, first) in ((["v1", "v2", "v3"], 0), (["v1", "v3"], 3))


def test_no_promotion_of_two_busy_processes_is_lost(tmp_path):
    registry = make_registry(tmp_path, 80, 81, 82, 83)
    pairs = (["v1", "v2"], ["v3", "v4"])
    assert exit_codes(promote_back_and_forth, [(tmp_path, pair) for pair in pairs]) == [0, 0]
    versions = [event.version for event in registry.state().history]
    assert [sum(v in pair for v in versions) for pair in pairs] == [10, 10]
    assert registry.champion() == versions[-1]


@pytest.mark.parametrize("renames", [0, 1])
def test_a_crash_before_a_rename_leaves_the_champion(tmp_path, renames):
    registry = make_registry(tmp_path, 80, 81)
    promote(registry, "v1")
    before = registry.state()
    assert exit_codes(die_before_a_rename, [(tmp_path, renames)]) == [9]
    assert registry.state() == before
    promote(registry, "v2")  # the lock went with the process
    assert not list(tmp_path.glob(".registry.json.*"))
