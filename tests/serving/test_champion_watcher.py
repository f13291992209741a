"""The champion followed on a real registry, with a clock that the test turns."""

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
from cxr_platform.registry.state import State
from cxr_platform.registry.store import Registry
from cxr_platform.serving import champion_watcher
from cxr_platform.serving.champion_watcher import Follower
from cxr_platform.serving.problems import Problem
from tests.registry.builders import filler, make_registry

LEAD = 10.0


class Hands:
    """A clock that stands until it is turned."""

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
def clock(monkeypatch: pytest.MonkeyPatch) -> Hands:
    """Of followers and of changes of the champion."""
    hands = Hands()
    monkeypatch.setattr(promotion, "datetime", SimpleNamespace(now=lambda _: hands.now))
    return hands


@pytest.fixture
def loads() -> list[str]:
    return []


@pytest.fixture
def load(loads: list[str]) -> Callable[[Path, Bundle], str]:
    def loading(folder: Path, bundle: Bundle) -> str:
        loads.append(bundle.version)
        return f"model of {bundle.version}"

    return loading


def test_the_champion_answers(registry: Registry, load: Callable[[Path, Bundle], str], clock: Hands) -> None:
    follower = Follower(registry, load, clock)
    assert follower.current == ("v1", "model of v1")
    assert follower.status == champion_watcher.Status("v1", None, (), True)


def test_a_promotion_is_loaded_before_its_moment_and_answers_from_it_on(
    registry: Registry, load: Callable[[Path, Bundle], str], loads: list[str], clock: Hands
) -> None:
    follower = Follower(registry, load, clock)
    promote(registry, "v2", lead_seconds=LEAD)
    follower.look()
    assert loads == ["v1", "v2"]
    assert follower.current[0] == "v1"
    assert follower.status.pending == "v2"
    clock.turn(LEAD - 0.5)
    assert follower.current[0] == "v1"
    clock.turn(1.0)
    assert follower.current == ("v2", "model of v2")
    assert follower.status.pending is None
    follower.look()
    assert loads == ["v1", "v2"]


def test_a_promotion_that_is_seen_late_is_taken_up_when_it_is_loaded(
    registry: Registry, load: Callable[[Path, Bundle], str], clock: Hands
) -> None:
    follower = Follower(registry, load, clock)
    promote(registry, "v2", lead_seconds=LEAD)
    clock.turn(LEAD + 1)
    assert follower.current[0] == "v1"
    follower.look()
    assert follower.current[0] == "v2"


def test_two_replicas_change_at_the_same_moment(
    registry: Registry, load: Callable[[Path, Bundle], str], clock: Hands
) -> None:
    early, late = Follower(registry, load, clock), Follower(registry, load, clock)
    promote(registry, "v2", lead_seconds=LEAD)
    early.look()
    clock.turn(LEAD - 1)
    late.look()
    for _ in range(20):
        clock.turn(0.1)
        assert early.current == late.current
    assert early.current[0] == "v2"


def test_a_replica_that_starts_before_the_moment_answers_as_the_others(
    registry: Registry, load: Callable[[Path, Bundle], str], clock: Hands
) -> None:
    promote(registry, "v2", lead_seconds=LEAD)
    assert Follower(registry, load, clock).current[0] == "v1"
    clock.turn(LEAD + 1)
    assert Follower(registry, load, clock).current[0] == "v2"


def test_a_rollback_is_followed_too(registry: Registry, load: Callable[[Path, Bundle], str], clock: Hands) -> None:
    promote(registry, "v2", lead_seconds=0)
    clock.turn(1)
    follower = Follower(registry, load, clock)
    rollback(registry, lead_seconds=LEAD)
    follower.look()
    assert follower.current[0] == "v2"
    clock.turn(LEAD + 1)
    assert follower.current[0] == "v1"


def test_a_version_taken_back_within_the_lead_never_answers(
    registry: Registry, load: Callable[[Path, Bundle], str], clock: Hands
) -> None:
    follower = Follower(registry, load, clock)
    promote(registry, "v2", lead_seconds=LEAD)
    follower.look()
    clock.turn(LEAD / 2)
    rollback(registry, lead_seconds=LEAD)
    for _ in range(60):
        clock.turn(LEAD / 20)
        follower.look()
        assert follower.current[0] == "v1"


def test_only_what_is_needed_stays_in_memory(
    registry: Registry, load: Callable[[Path, Bundle], str], loads: list[str], clock: Hands
) -> None:
    follower = Follower(registry, load, clock)
    for version in ("v2", "v3"):
        promote(registry, version, lead_seconds=0)
        clock.turn(1)
        follower.look()
        assert follower.current[0] == version
    follower.look()
    follower.of("v1")
    assert loads == ["v1", "v2", "v3", "v1"]


def test_a_version_that_cannot_be_loaded_changes_nothing_and_is_told(
    registry: Registry,
    load: Callable[[Path, Bundle], str],
    loads: list[str],
    clock: Hands,
    caplog: pytest.LogCaptureFixture,
) -> None:
    follower = Follower(registry, load, clock)
    promote(registry, "v2", lead_seconds=LEAD)
    content = (registry.root / "v2" / ONNX).read_bytes()
    (registry.root / "v2" / ONNX).write_bytes(b"x" + content[1:])
    with caplog.at_level(logging.WARNING):
        follower.look()
    assert "v2 cannot be loaded" in caplog.text
    clock.turn(LEAD + 1)
    follower.look()
    assert follower.current[0] == "v1"
    assert follower.status == champion_watcher.Status("v1", None, ("v2",), True)
    follower.of("v1")
    assert loads == ["v1"]
    (registry.root / "v2" / ONNX).write_bytes(content)
    promote(registry, "v3", lead_seconds=3 * LEAD)
    follower.look()
    assert follower.current[0] == "v2"
    assert follower.status == champion_watcher.Status("v2", "v3", (), True)


def test_a_version_that_was_repaired_is_tried_again_after_a_while(
    registry: Registry, load: Callable[[Path, Bundle], str], clock: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower(registry, load, clock)
    promote(registry, "v2", lead_seconds=0)
    clock.turn(1)
    content = (registry.root / "v2" / ONNX).read_bytes()
    (registry.root / "v2" / ONNX).unlink()
    follower.look()
    (registry.root / "v2" / ONNX).write_bytes(content)
    follower.look()
    assert follower.status.refused == ("v2",)
    monkeypatch.setattr(champion_watcher, "RETRY_SECONDS", -1.0)
    follower.look()
    assert follower.current[0] == "v2"
    assert follower.status.refused == ()


def test_whatever_loading_raises_the_version_before_goes_on(registry: Registry, clock: Hands) -> None:
    def load(folder: Path, bundle: Bundle) -> str:
        if bundle.version == "v2":
            raise MemoryError
        return bundle.version

    follower = Follower(registry, load, clock)
    promote(registry, "v2", lead_seconds=0)
    clock.turn(1)
    follower.look()
    assert follower.status.refused == ("v2",)
    assert follower.current[0] == "v1"


def test_a_registry_that_cannot_be_read_changes_nothing_and_is_told(
    registry: Registry, load: Callable[[Path, Bundle], str], clock: Hands, caplog: pytest.LogCaptureFixture
) -> None:
    follower = Follower(registry, load, clock)
    content = (registry.root / "registry.json").read_bytes()
    (registry.root / "registry.json").write_text("{", encoding="utf-8")
    for _ in range(3):
        follower.look()
    assert follower.current[0] == "v1"
    assert not follower.status.registry_readable
    assert caplog.text.count("cannot be read") == 1
    (registry.root / "registry.json").write_bytes(content)
    follower.look()
    assert follower.status.registry_readable


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(116, "Stale file handle")])
def test_a_share_that_fails_changes_nothing_and_is_told(
    registry: Registry,
    load: Callable[[Path, Bundle], str],
    clock: Hands,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: OSError,
) -> None:
    follower = Follower(registry, load, clock)

    def fail() -> State:
        raise error

    with monkeypatch.context() as failing:
        failing.setattr(registry, "state", fail)
        follower.look()
    assert follower.current[0] == "v1"
    assert not follower.status.registry_readable
    assert str(error) in caplog.text
    follower.look()
    assert follower.status.registry_readable


def test_a_registry_that_is_gone_is_not_an_empty_one(
    registry: Registry, load: Callable[[Path, Bundle], str], clock: Hands
) -> None:
    follower = Follower(registry, load, clock)
    registry.root.rename(registry.root.with_name("unmounted"))
    follower.look()
    assert follower.current[0] == "v1"
    assert not follower.status.registry_readable


def test_a_replica_that_finds_the_champion_broken_answers_with_the_one_before(
    registry: Registry, load: Callable[[Path, Bundle], str], clock: Hands
) -> None:
    promote(registry, "v2", lead_seconds=0)
    clock.turn(1)
    (registry.root / "v2" / ONNX).unlink()
    follower = Follower(registry, load, clock)
    assert follower.current[0] == "v1"
    assert follower.status.refused == ("v2",)


def test_without_a_champion_that_can_be_loaded_nothing_starts(
    registry: Registry, load: Callable[[Path, Bundle], str], clock: Hands, tmp_path: Path
) -> None:
    (registry.root / "v1" / ONNX).unlink()
    with pytest.raises(ServingError, match="verify"):
        Follower(registry, load, clock)
    with pytest.raises(RegistryError, match="Expected a champion"):
        Follower(Registry(tmp_path / "none"), load, clock)


def reason(follower: Follower[str]) -> str:
    """Why it has nothing to answer with."""
    with pytest.raises(Problem) as problem:
        _ = follower.current
    assert problem.value.status == 503
    assert problem.value.reason == follower.missing
    return problem.value.reason


def test_a_replica_waits_for_the_first_champion(
    load: Callable[[Path, Bundle], str], clock: Hands, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The registry is not there, then empty, then without one; promoted with a lead, it answers at once."""
    registry = Registry(tmp_path / "registry")
    follower = Follower(registry, load, clock, patient=True)
    assert reason(follower) == "no-registry"
    assert follower.status == champion_watcher.Status(None, None, (), False)
    registry.root.mkdir()
    follower.look()
    assert reason(follower) == "no-champion"
    registry.add(filler())
    follower.look()
    assert reason(follower) == "no-champion"
    assert follower.status == champion_watcher.Status(None, None, (), True)
    promote(registry, "v1", lead_seconds=LEAD)
    follower.look()
    assert follower.current == ("v1", "model of v1")
    assert follower.missing is None
    assert follower.status == champion_watcher.Status("v1", None, (), True)
    assert caplog.text.count("Waiting for it") == 1


def test_a_replica_that_waits_says_so_once_in_a_while(
    load: Callable[[Path, Bundle], str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "registry").mkdir()
    follower = Follower(Registry(tmp_path / "registry"), load, patient=True)
    for _ in range(5):
        follower.look()
    assert caplog.text.count("has no champion yet. Waiting for it") == 1
    monkeypatch.setattr(champion_watcher, "REMIND_SECONDS", 0.0)
    follower.look()
    assert caplog.text.count("has no champion yet. Waiting for it") == 2


def test_a_replica_waits_for_a_registry_that_cannot_be_read_yet(
    registry: Registry, load: Callable[[Path, Bundle], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> State:
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as failing:
        failing.setattr(registry, "state", fail)
        follower = Follower(registry, load, patient=True)
        assert reason(follower) == "no-registry"
    follower.look()
    assert follower.current[0] == "v1"


def test_a_changed_champion_never_answers_and_what_comes_after_it_does(
    registry: Registry,
    load: Callable[[Path, Bundle], str],
    loads: list[str],
    clock: Hands,
    caplog: pytest.LogCaptureFixture,
) -> None:
    content = (registry.root / "v1" / ONNX).read_bytes()
    (registry.root / "v1" / ONNX).write_bytes(b"x" + content[1:])
    follower = Follower(registry, load, clock, patient=True)
    for _ in range(5):
        follower.look()
        assert reason(follower) == "broken-champion"
    assert follower.status == champion_watcher.Status(None, None, ("v1",), True)
    assert (loads, caplog.text.count("v1 cannot be loaded")) == ([], 1), "not hashed anew at every look"
    assert "Neither the champion nor one before it can be loaded" in caplog.text
    promote(registry, "v2", force=True, lead_seconds=0)
    clock.turn(1)
    follower.look()
    assert follower.current[0] == "v2"
    follower.look()
    assert follower.status == champion_watcher.Status("v2", None, (), True)


def test_a_champion_that_was_repaired_answers_after_a_while(
    registry: Registry, load: Callable[[Path, Bundle], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (registry.root / "v1" / ONNX).read_bytes()
    (registry.root / "v1" / ONNX).unlink()
    follower = Follower(registry, load, patient=True)
    (registry.root / "v1" / ONNX).write_bytes(content)
    follower.look()
    assert reason(follower) == "broken-champion"
    monkeypatch.setattr(champion_watcher, "RETRY_SECONDS", -1.0)
    follower.look()
    assert follower.current[0] == "v1"
