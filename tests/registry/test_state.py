import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from cxr_platform.errors import RegistryError
from cxr_platform.registry.state import Event, State, VersionEntry, champions, parse_state
from cxr_platform.registry.strict_json import Mismatch

START = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
PATH = Path("registry.json")


def event(version: str, action: Any = "promote", minute: int = 0, lead: int = 10) -> Event:
    at = START + timedelta(minutes=minute)
    return Event(version, action, at.isoformat(), (at + timedelta(seconds=lead)).isoformat(), "test", False)


def _iso(moment: datetime, seconds: int) -> str:
    return (moment + timedelta(seconds=seconds)).isoformat()


def state(*history: Event, champion: str | None = None, versions: int = 12) -> State:
    entries = {f"v{i}": VersionEntry("ab" * 32, START.isoformat()) for i in range(versions, 0, -1)}
    return State(entries, champion, history)


def test_a_state_is_read_as_it_was_written():
    written = state(event("v1"), event("v2"), champion="v2")
    assert parse_state(written.to_json(), PATH) == written


def test_versions_are_in_the_order_of_their_numbers():
    assert state().names[-3:] == ("v10", "v11", "v12")


def test_rollbacks_walk_back_and_a_promotion_goes_on_from_there():
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
def test_a_rollback_to_anything_else_is_no_history(history):
    with pytest.raises(Mismatch, match="history"):
        champions(history)


def test_the_version_in_effect_changes_at_the_stated_moment():
    two = state(event("v1", minute=0), event("v2", minute=1), champion="v2")
    before, change = START + timedelta(seconds=69.999), START + timedelta(seconds=70)

    assert two.effective(START) is None
    assert two.effective(before) == "v1"
    assert two.effective(change) == "v2"


def test_a_rollback_overtakes_a_promotion_that_was_still_to_come():
    late = state(event("v1"), event("v2", minute=1, lead=3600), event("v1", "rollback", minute=2), champion="v1")

    assert {late.effective(START + timedelta(minutes=m)) for m in (1, 2, 3, 60, 120)} == {"v1"}


@pytest.mark.parametrize("lead", [10, 3600])
def test_a_version_taken_back_before_its_moment_never_answers(lead: int):
    """Promoted with a lead of 10 s, taken back 5 s later: its moment passes before that of the rollback."""
    at = START + timedelta(minutes=1)
    back = replace(event("v1", "rollback", lead=10), at=_iso(at, 5), effective_at=_iso(at, 5 + lead))
    history = (event("v1"), event("v2", minute=1), back)
    taken_back = state(*history, champion="v1")

    assert {taken_back.effective(at + timedelta(seconds=s / 2)) for s in range(2 * lead + 40)} == {"v1"}


def test_a_promotion_overtaken_by_another_never_answers():
    third = replace(event("v3"), at=_iso(START, 65), effective_at=_iso(START, 75))
    overtaken = state(event("v1"), event("v2", minute=1), third, champion="v3")

    assert [overtaken.effective(START + timedelta(seconds=s)) for s in (69, 71, 74, 75)] == ["v1", "v1", "v1", "v3"]


def test_a_version_taken_back_at_its_very_moment_never_answers():
    back = replace(event("v1", "rollback"), at=_iso(START, 70), effective_at=_iso(START, 80))
    taken_back = state(event("v1"), event("v2", minute=1), back, champion="v1")

    assert {taken_back.effective(START + timedelta(seconds=s)) for s in (69, 70, 75, 80)} == {"v1"}


def test_a_change_that_has_taken_effect_holds_until_the_next_one_does():
    two = state(event("v1", lead=0), event("v2", minute=1), champion="v2")

    assert [two.effective(START + timedelta(seconds=s)) for s in (0, 61, 69, 70)] == ["v1", "v1", "v1", "v2"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.update(schema_version=2), "schema_version 1"),
        (lambda t: t.update(champion="v1"), "champion to be v2, as history has it"),
        (lambda t: t.update(champion=None), "champion to be v2"),
        (lambda t: t.pop("history"), "the key history"),
        (lambda t: t["versions"].pop("v2"), r"history[1].version to be one of versions"),
        (lambda t: t["versions"].update({"../x": t["versions"].pop("v3")}), "versions to be called v1, v2"),
        (lambda t: t["versions"]["v1"].update(sha256="ab"), "versions.v1.sha256 of 64"),
        (lambda t: t["history"][0].update(action="demote"), "history[0].action to be 'promote' or 'rollback'"),
        (lambda t: t["history"][0].update(effective_at="later"), "history[0].effective_at to be an ISO time"),
    ],
)
def test_a_registry_that_was_edited_wrongly_is_an_error_with_advice(change, expected):
    tree = json.loads(state(event("v1"), event("v2"), champion="v2").to_json())
    change(tree)

    with pytest.raises(RegistryError) as refusal:
        parse_state(json.dumps(tree).encode(), PATH)
    assert f"registry.json: expected {expected}" in str(refusal.value)
    assert refusal.value.advice


def test_every_torn_file_is_an_error_that_says_what_to_put_back():
    whole = state(event("v1"), champion="v1").to_json().rstrip()
    for length in range(len(whole)):
        with pytest.raises(RegistryError, match=r"Put registry\.json\.previous"):
            parse_state(whole[:length], PATH)
