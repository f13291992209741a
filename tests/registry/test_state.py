import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from cxr_platform.errors import RegistryError
from cxr_platform.registry.state import Event, RegistryState, VersionEntry, champions, parse_state
from tests.registry.builders import changed

START = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
PATH = Path("registry.json")


def event(version: str, action: Any = "promote", minute: int = 0, lead: int = 10) -> Event:
    at = START + timedelta(minutes=minute)
    return Event(
        version=version, action=action, at=at, effective_at=at + timedelta(seconds=lead), reason="test", forced=False
    )


def after(moment: datetime, seconds: int) -> datetime:
    return moment + timedelta(seconds=seconds)


def state(*history: Event, champion: str | None = None, versions: int = 12) -> RegistryState:
    entries = {f"v{i}": VersionEntry(sha256="ab" * 32, created=START) for i in range(versions, 0, -1)}
    return RegistryState(versions=entries, champion=champion, history=history)


def test_a_state_is_read_as_it_was_written():
    written = state(event("v1"), event("v2"), champion="v2")
    assert parse_state(written.to_json(), PATH) == written


def test_versions_are_ordered_by_number():
    assert state().names[-3:] == ("v10", "v11", "v12")


def test_rollbacks_restore_earlier_champions_and_a_promotion_continues_from_there():
    history = [event(v) for v in ("v1", "v2", "v3")]
    assert champions(history) == ["v1", "v2", "v3"]
    history.append(event("v2", "rollback"))
    assert champions(history) == ["v1", "v2"]
    history.append(event("v1", "rollback"))
    assert champions(history) == ["v1"]
    history.append(event("v3"))
    assert champions(history) == ["v1", "v3"]
    assert state(*history, champion="v3").before == "v1"
    assert state(history[0], champion="v1").before is None


@pytest.mark.parametrize("history", [[event("v1", "rollback")], [event("v1"), event("v2"), event("v3", "rollback")]])
def test_a_rollback_to_a_version_that_was_not_the_champion_is_an_error(history):
    with pytest.raises(ValueError, match="history"):
        champions(history)


def test_the_version_in_effect_changes_at_the_stated_moment():
    two = state(event("v1", minute=0), event("v2", minute=1), champion="v2")
    before, change = START + timedelta(seconds=69.999), START + timedelta(seconds=70)

    assert two.effective(START) is None
    assert two.effective(before) == "v1"
    assert two.effective(change) == "v2"


def test_a_rollback_cancels_a_promotion_that_has_not_taken_effect():
    late = state(event("v1"), event("v2", minute=1, lead=3600), event("v1", "rollback", minute=2), champion="v1")

    assert {late.effective(START + timedelta(minutes=m)) for m in (1, 2, 3, 60, 120)} == {"v1"}


@pytest.mark.parametrize("lead", [10, 3600])
def test_a_version_rolled_back_within_its_lead_time_never_answers(lead: int):
    """The promotion would take effect before the rollback, which follows it after 5 s."""
    at = START + timedelta(minutes=1)
    back = changed(event("v1", "rollback", lead=10), at=after(at, 5), effective_at=after(at, 5 + lead))
    history = (event("v1"), event("v2", minute=1), back)
    taken_back = state(*history, champion="v1")

    assert {taken_back.effective(at + timedelta(seconds=s / 2)) for s in range(2 * lead + 40)} == {"v1"}


def test_a_promotion_followed_by_another_within_its_lead_time_never_answers():
    third = changed(event("v3"), at=after(START, 65), effective_at=after(START, 75))
    overtaken = state(event("v1"), event("v2", minute=1), third, champion="v3")

    assert [overtaken.effective(START + timedelta(seconds=s)) for s in (69, 71, 74, 75)] == ["v1", "v1", "v1", "v3"]


def test_a_version_rolled_back_at_its_effective_time_never_answers():
    back = changed(event("v1", "rollback"), at=after(START, 70), effective_at=after(START, 80))
    taken_back = state(event("v1"), event("v2", minute=1), back, champion="v1")

    assert {taken_back.effective(START + timedelta(seconds=s)) for s in (69, 70, 75, 80)} == {"v1"}


def test_a_change_that_has_taken_effect_holds_until_the_next_one_does():
    two = state(event("v1", lead=0), event("v2", minute=1), champion="v2")

    assert [two.effective(START + timedelta(seconds=s)) for s in (0, 61, 69, 70)] == ["v1", "v1", "v1", "v2"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.update(schema_version=2), "expected schema_version 1"),
        (lambda t: t.update(champion="v1"), "expected champion to be v2, the last of history"),
        (lambda t: t.update(champion=None), "expected champion to be v2"),
        (lambda t: t.pop("history"), "expected champion to be None"),
        (lambda t: (t.pop("history"), t.update(champion=None)), "missing history"),
        (lambda t: t["versions"].pop("v2"), "expected history.1.version to be one of versions, not 'v2'"),
        (
            lambda t: t["versions"].update({"../x": t["versions"].pop("v3")}),
            "versions.../x: expected a version: v1, v2",
        ),
        (lambda t: t["versions"]["v1"].update(sha256="ab"), "versions.v1.sha256: expected pattern"),
        (lambda t: t["history"][0].update(action="demote"), "history.0.action: expected 'promote' or 'rollback'"),
        (lambda t: t["history"][0].update(effective_at="later"), "history.0.effective_at: expected a datetime"),
        (lambda t: t["history"][0].update(at="2026-01-31T12:00:00"), "history.0.at: expected timezone info"),
        (lambda t: t["history"][0].update(at="2026-01-31T12:00:00+02:00"), "history.0.at: expected a time in UTC"),
    ],
)
def test_a_wrong_value_in_registry_json_is_an_error_with_advice(change, expected):
    tree = json.loads(state(event("v1"), event("v2"), champion="v2").to_json())
    change(tree)

    with pytest.raises(RegistryError) as refusal:
        parse_state(json.dumps(tree).encode(), PATH)
    assert f"registry.json: {expected}" in str(refusal.value)
    assert refusal.value.advice


def test_a_truncated_registry_json_is_an_error_that_names_the_previous_state():
    whole = state(event("v1"), champion="v1").to_json().rstrip()
    for length in range(len(whole)):
        with pytest.raises(RegistryError, match=r"Put registry\.json\.previous"):
            parse_state(whole[:length], PATH)
