"""A watcher on a real registry, with a clock that the test turns."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest

from cxr_platform.errors import RegistryError, ServingError
from cxr_platform.registry import promotion
from cxr_platform.registry.bundle import ONNX, Bundle
from cxr_platform.registry.promotion import promote, rollback
from cxr_platform.registry.signing import generate_keys, read_public_key, read_secret_key
from cxr_platform.registry.state import RegistryState
from cxr_platform.registry.store import Registry
from cxr_platform.serving import champion_watcher
from cxr_platform.serving.champion_watcher import ChampionWatcher
from cxr_platform.serving.problems import Problem
from tests.registry.builders import filler, make_registry

LEAD = 10.0


class FakeClock:
    """Stands still until `turn`."""

    def __init__(self) -> None:
        self.now = datetime.now(timezone.utc)

    def __call__(self) -> datetime:
        return self.now

    def turn(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    made = make_registry(tmp_path / "registry", 80.0, 81.0, 82.0)
    promote(made, "v1", lead_seconds=0)
    return made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The clock of watchers and of promotions."""
    fake = FakeClock()
    monkeypatch.setattr(promotion, "datetime", SimpleNamespace(now=lambda _: fake.now))
    return fake


@pytest.fixture
def loads() -> list[str]:
    return []


@pytest.fixture
def load(loads: list[str]) -> Callable[[Path, Bundle], str]:
    def loading(folder: Path, bundle: Bundle) -> str:
        loads.append(bundle.version)
        return f"model of {bundle.version}"

    return loading


def test_the_champion_is_current(registry: Registry, load: Callable[[Path, Bundle], str], clock: FakeClock) -> None:
    watcher = ChampionWatcher(registry, load, clock)
    assert watcher.current == ("v1", "model of v1")
    assert watcher.status == champion_watcher.Status("v1", None, (), True)


def test_a_promotion_is_loaded_early_and_current_from_its_moment(
    registry: Registry, load: Callable[[Path, Bundle], str], loads: list[str], clock: FakeClock
) -> None:
    watcher = ChampionWatcher(registry, load, clock)
    promote(registry, "v2", lead_seconds=LEAD)
    watcher.poll()
    assert loads == ["v1", "v2"]
    assert watcher.current[0] == "v1"
    assert watcher.status.pending == "v2"
    clock.turn(LEAD - 0.5)
    assert watcher.current[0] == "v1"
    clock.turn(1.0)
    assert watcher.current == ("v2", "model of v2")
    assert watcher.status.pending is None
    watcher.poll()
    assert loads == ["v1", "v2"]


def test_a_promotion_seen_late_is_current_once_it_is_loaded(
    registry: Registry, load: Callable[[Path, Bundle], str], clock: FakeClock
) -> None:
    watcher = ChampionWatcher(registry, load, clock)
    promote(registry, "v2", lead_seconds=LEAD)
    clock.turn(LEAD + 1)
    assert watcher.current[0] == "v1"
    watcher.poll()
    assert watcher.current[0] == "v2"


def test_two_watchers_switch_at_the_same_moment(
    registry: Registry, load: Callable[[Path, Bundle], str], clock: FakeClock
) -> None:
    early, late = ChampionWatcher(registry, load, clock), ChampionWatcher(registry, load, clock)
    promote(registry, "v2", lead_seconds=LEAD)
    early.poll()
    clock.turn(LEAD - 1)
    late.poll()
    for _ in range(20):
        clock.turn(0.1)
        assert early.current == late.current
    assert early.current[0] == "v2"


def test_a_watcher_that_starts_before_the_moment_waits_for_it(
    registry: Registry, load: Callable[[Path, Bundle], str], clock: FakeClock
) -> None:
    promote(registry, "v2", lead_seconds=LEAD)
    assert ChampionWatcher(registry, load, clock).current[0] == "v1"
    clock.turn(LEAD + 1)
    assert ChampionWatcher(registry, load, clock).current[0] == "v2"


def test_a_rollback_is_followed(registry: Registry, load: Callable[[Path, Bundle], str], clock: FakeClock) -> None:
    promote(registry, "v2", lead_seconds=0)
    clock.turn(1)
    watcher = ChampionWatcher(registry, load, clock)
    rollback(registry, lead_seconds=LEAD)
    watcher.poll()
    assert watcher.current[0] == "v2"
    clock.turn(LEAD + 1)
    assert watcher.current[0] == "v1"


def test_a_promotion_rolled_back_before_its_moment_is_never_current(
    registry: Registry, load: Callable[[Path, Bundle], str], clock: FakeClock
) -> None:
    watcher = ChampionWatcher(registry, load, clock)
    promote(registry, "v2", lead_seconds=LEAD)
    watcher.poll()
    clock.turn(LEAD / 2)
    rollback(registry, lead_seconds=LEAD)
    for _ in range(60):
        clock.turn(LEAD / 20)
        watcher.poll()
        assert watcher.current[0] == "v1"


def test_versions_that_are_not_needed_are_released(
    registry: Registry, load: Callable[[Path, Bundle], str], loads: list[str], clock: FakeClock
) -> None:
    watcher = ChampionWatcher(registry, load, clock)
    for version in ("v2", "v3"):
        promote(registry, version, lead_seconds=0)
        clock.turn(1)
        watcher.poll()
        assert watcher.current[0] == version
    watcher.poll()
    watcher.version("v1")
    assert loads == ["v1", "v2", "v3", "v1"]


def test_a_version_that_cannot_be_loaded_is_reported_and_changes_nothing(
    registry: Registry,
    load: Callable[[Path, Bundle], str],
    loads: list[str],
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    watcher = ChampionWatcher(registry, load, clock)
    promote(registry, "v2", lead_seconds=LEAD)
    content = (registry.root / "v2" / ONNX).read_bytes()
    (registry.root / "v2" / ONNX).write_bytes(b"x" + content[1:])
    with caplog.at_level(logging.WARNING):
        watcher.poll()
    assert "v2 cannot be loaded" in caplog.text
    clock.turn(LEAD + 1)
    watcher.poll()
    assert watcher.current[0] == "v1"
    assert watcher.status == champion_watcher.Status("v1", None, ("v2",), True)
    watcher.version("v1")
    assert loads == ["v1"]
    (registry.root / "v2" / ONNX).write_bytes(content)
    promote(registry, "v3", lead_seconds=3 * LEAD)
    watcher.poll()
    assert watcher.current[0] == "v2"
    assert watcher.status == champion_watcher.Status("v2", "v3", (), True)


def test_a_repaired_version_is_loaded_after_the_retry_time(
    registry: Registry, load: Callable[[Path, Bundle], str], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = ChampionWatcher(registry, load, clock)
    promote(registry, "v2", lead_seconds=0)
    clock.turn(1)
    content = (registry.root / "v2" / ONNX).read_bytes()
    (registry.root / "v2" / ONNX).unlink()
    watcher.poll()
    (registry.root / "v2" / ONNX).write_bytes(content)
    watcher.poll()
    assert watcher.status.refused == ("v2",)
    monkeypatch.setattr(champion_watcher, "RETRY_SECONDS", -1.0)
    watcher.poll()
    assert watcher.current[0] == "v2"
    assert watcher.status.refused == ()


def test_any_exception_while_loading_keeps_the_previous_version(registry: Registry, clock: FakeClock) -> None:
    def load(folder: Path, bundle: Bundle) -> str:
        if bundle.version == "v2":
            raise MemoryError
        return bundle.version

    watcher = ChampionWatcher(registry, load, clock)
    promote(registry, "v2", lead_seconds=0)
    clock.turn(1)
    watcher.poll()
    assert watcher.status.refused == ("v2",)
    assert watcher.current[0] == "v1"


def test_an_unreadable_registry_is_reported_and_changes_nothing(
    registry: Registry, load: Callable[[Path, Bundle], str], clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = ChampionWatcher(registry, load, clock)
    content = (registry.root / "registry.json").read_bytes()
    (registry.root / "registry.json").write_text("{", encoding="utf-8")
    for _ in range(3):
        watcher.poll()
    assert watcher.current[0] == "v1"
    assert not watcher.status.registry_readable
    assert caplog.text.count("cannot be read") == 1
    (registry.root / "registry.json").write_bytes(content)
    watcher.poll()
    assert watcher.status.registry_readable


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(116, "Stale file handle")])
def test_a_failing_network_share_is_reported_and_changes_nothing(
    registry: Registry,
    load: Callable[[Path, Bundle], str],
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: OSError,
) -> None:
    watcher = ChampionWatcher(registry, load, clock)

    def fail() -> RegistryState:
        raise error

    with monkeypatch.context() as failing:
        failing.setattr(registry, "state", fail)
        watcher.poll()
    assert watcher.current[0] == "v1"
    assert not watcher.status.registry_readable
    assert str(error) in caplog.text
    watcher.poll()
    assert watcher.status.registry_readable


def test_a_missing_registry_folder_keeps_the_champion(
    registry: Registry, load: Callable[[Path, Bundle], str], clock: FakeClock
) -> None:
    watcher = ChampionWatcher(registry, load, clock)
    registry.root.rename(registry.root.with_name("unmounted"))
    watcher.poll()
    assert watcher.current[0] == "v1"
    assert not watcher.status.registry_readable


def test_with_a_damaged_champion_a_watcher_starts_with_the_previous_one(
    registry: Registry, load: Callable[[Path, Bundle], str], clock: FakeClock
) -> None:
    promote(registry, "v2", lead_seconds=0)
    clock.turn(1)
    (registry.root / "v2" / ONNX).unlink()
    watcher = ChampionWatcher(registry, load, clock)
    assert watcher.current[0] == "v1"
    assert watcher.status.refused == ("v2",)


def test_without_a_champion_that_can_be_loaded_a_watcher_raises(
    registry: Registry, load: Callable[[Path, Bundle], str], clock: FakeClock, tmp_path: Path
) -> None:
    (registry.root / "v1" / ONNX).unlink()
    with pytest.raises(ServingError, match="verify"):
        ChampionWatcher(registry, load, clock)
    with pytest.raises(RegistryError, match="Expected a champion"):
        ChampionWatcher(Registry(tmp_path / "none"), load, clock)


def reason(watcher: ChampionWatcher[str]) -> str:
    """The reason for which no version is current."""
    with pytest.raises(Problem) as problem:
        _ = watcher.current
    assert problem.value.status == 503
    assert problem.value.reason == watcher.missing_reason
    return problem.value.reason


def test_a_waiting_watcher_takes_the_first_champion_at_once(
    load: Callable[[Path, Bundle], str], clock: FakeClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No registry, an empty one, one without a champion; a promotion with a lead time is current at once."""
    registry = Registry(tmp_path / "registry")
    watcher = ChampionWatcher(registry, load, clock, wait=True)
    assert reason(watcher) == "no-registry"
    assert watcher.status == champion_watcher.Status(None, None, (), False)
    registry.root.mkdir()
    watcher.poll()
    assert reason(watcher) == "no-champion"
    registry.add(filler())
    watcher.poll()
    assert reason(watcher) == "no-champion"
    assert watcher.status == champion_watcher.Status(None, None, (), True)
    promote(registry, "v1", lead_seconds=LEAD)
    watcher.poll()
    assert watcher.current == ("v1", "model of v1")
    assert watcher.missing_reason is None
    assert watcher.status == champion_watcher.Status("v1", None, (), True)
    assert caplog.text.count("Waiting for a champion") == 1


def test_a_waiting_watcher_logs_a_reminder(
    load: Callable[[Path, Bundle], str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "registry").mkdir()
    watcher = ChampionWatcher(Registry(tmp_path / "registry"), load, wait=True)
    for _ in range(5):
        watcher.poll()
    assert caplog.text.count("The registry has no champion yet.") == 1
    monkeypatch.setattr(champion_watcher, "REMINDER_SECONDS", 0.0)
    watcher.poll()
    assert caplog.text.count("The registry has no champion yet.") == 2


def test_a_waiting_watcher_waits_for_a_readable_registry(
    registry: Registry, load: Callable[[Path, Bundle], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> RegistryState:
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as failing:
        failing.setattr(registry, "state", fail)
        watcher = ChampionWatcher(registry, load, wait=True)
        assert reason(watcher) == "no-registry"
    watcher.poll()
    assert watcher.current[0] == "v1"


def test_a_changed_champion_is_never_current_and_the_next_one_is(
    registry: Registry,
    load: Callable[[Path, Bundle], str],
    loads: list[str],
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    content = (registry.root / "v1" / ONNX).read_bytes()
    (registry.root / "v1" / ONNX).write_bytes(b"x" + content[1:])
    watcher = ChampionWatcher(registry, load, clock, wait=True)
    for _ in range(5):
        watcher.poll()
        assert reason(watcher) == "broken-champion"
    assert watcher.status == champion_watcher.Status(None, None, ("v1",), True)
    assert (loads, caplog.text.count("v1 cannot be loaded")) == ([], 1), "not hashed again at every poll"
    assert "No champion can be loaded, current or previous" in caplog.text
    promote(registry, "v2", force=True, lead_seconds=0)
    clock.turn(1)
    watcher.poll()
    assert watcher.current[0] == "v2"
    watcher.poll()
    assert watcher.status == champion_watcher.Status("v2", None, (), True)


def test_a_repaired_champion_is_current_after_the_retry_time(
    registry: Registry, load: Callable[[Path, Bundle], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (registry.root / "v1" / ONNX).read_bytes()
    (registry.root / "v1" / ONNX).unlink()
    watcher = ChampionWatcher(registry, load, wait=True)
    (registry.root / "v1" / ONNX).write_bytes(content)
    watcher.poll()
    assert reason(watcher) == "broken-champion"
    monkeypatch.setattr(champion_watcher, "RETRY_SECONDS", -1.0)
    watcher.poll()
    assert watcher.current[0] == "v1"


def test_a_registry_with_a_public_key_serves_signed_versions_only(registry: Registry, tmp_path: Path) -> None:
    secret, public = generate_keys(tmp_path / "ours")
    trusting = Registry(registry.root, read_public_key(str(public)))
    waiting = ChampionWatcher(trusting, lambda _, bundle: bundle.version, wait=True)
    assert waiting.missing_reason == "broken-champion"
    registry.sign("v1", read_secret_key(secret, None))
    assert ChampionWatcher(trusting, lambda _, bundle: bundle.version).current[0] == "v1"
    registry.add(filler(seed=1))
    promote(registry, "v2", force=True, lead_seconds=0)
    watcher = ChampionWatcher(trusting, lambda _, bundle: bundle.version)
    assert (watcher.current[0], watcher.status.refused) == ("v1", ("v2",))
