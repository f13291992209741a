import logging
import os
import re
from collections import Counter
from datetime import date, datetime, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest

from cxr_platform.errors import ServingError
from cxr_platform.serving import api_keys as module
from cxr_platform.serving.api_keys import (
    CHECK_SECONDS,
    GRACE_SECONDS,
    ApiKeyFile,
    ApiKeys,
    KeyCheck,
    RequestLimits,
    load_keys,
    parse_keys,
)
from cxr_platform.serving.problems import Problem
from tests.clock import Clock, stopped_clock

ONE, OTHER = "one-key-of-sixteen-and-more", "another-key-of-sixteen"


def accepts(keys: KeyCheck, key: str) -> bool:
    return keys.find(key) is not None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return stopped_clock(monkeypatch, module)


def test_keys_of_a_file_are_accepted_and_others_are_not(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# for the ward\n{ONE}\n\n{OTHER}  # for the lab\n", encoding="utf-8")
    keys = load_keys(file, {})
    assert keys is not None
    assert accepts(keys, ONE)
    assert accepts(keys, OTHER)
    assert not accepts(keys, "")
    assert not accepts(keys, ONE[:-1])
    assert not accepts(keys, "\udce9")


def test_keys_are_loaded_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(ONE, encoding="utf-8")
    for environment in ({"CXR_API_KEYS": f"{OTHER}, {ONE}"}, {"CXR_API_KEYS_FILE": str(file)}):
        keys = load_keys(None, environment)
        assert keys is not None
        assert accepts(keys, ONE)
    assert load_keys(None, {}) is None
    assert load_keys(None, {"CXR_API_KEYS": ""}) is None


def test_keys_are_kept_as_digests_only() -> None:
    assert ONE not in repr(load_keys(None, {"CXR_API_KEYS": ONE}))


@pytest.mark.parametrize("content", ["", "# nothing\n", "short\n", f"{ONE}\nshort\n"])
def test_a_file_without_valid_keys_is_an_error(tmp_path: Path, content: str) -> None:
    file = tmp_path / "keys"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ServingError, match="16 characters") as error:
        load_keys(file, {})
    assert "short" not in str(error.value).replace("shortest", "")


def test_a_key_that_is_too_short_is_named_by_its_place_or_name(tmp_path: Path) -> None:
    for line, named in (("short", "5 characters in key-2"), ("lab:short", "5 characters in lab")):
        with pytest.raises(ServingError, match=named):
            parse_keys([ONE, line], "keys")


def test_a_file_of_an_editor_of_windows_is_read(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(f"\ufeffward:{ONE}\r\n{OTHER}\r\n".encode())
    keys = load_keys(tmp_path / "keys", {})
    assert keys is not None
    assert [found.name for key in (ONE, OTHER) if (found := keys.find(key)) is not None] == ["ward", "key-2"]


@pytest.mark.parametrize("line", [f"{ONE}#more", f"ward:{ONE} limit=5# five a minute", f"{ONE}# # x"])
def test_a_number_sign_within_a_key_is_an_error_with_its_line(tmp_path: Path, line: str) -> None:
    """What is before it would be taken for the key, and the whole key would be rejected."""
    (tmp_path / "keys").write_text(f"# keys # of the ward\n{OTHER}  # x#y\n{line}\n", encoding="utf-8")
    with pytest.raises(ServingError, match=r"before the # of a comment in line 3 of .*keys") as error:
        load_keys(tmp_path / "keys", {})
    assert ONE not in str(error.value)


def test_one_key_under_two_names_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=r"each key in keys once.*the same for ward and lab") as error:
        parse_keys([f"ward:{ONE} until=2026-01-01", f"lab:{ONE}"], "keys")
    assert ONE not in str(error.value)


@pytest.mark.parametrize("name", ["ward:", ""])
def test_a_key_that_stands_there_twice_is_an_error(name: str) -> None:
    """A second line with a last day would not revoke the key that the first one lets in."""
    with pytest.raises(ServingError, match=r"each key in keys once\. Received: the same .*to revoke it") as error:
        parse_keys([f"{name}{ONE}", f"{name}{OTHER}", f"{name}{ONE} until=2020-01-01"], "keys")
    assert ONE not in str(error.value)


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="readable file of API keys"):
        load_keys(tmp_path / "none", {})
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(ServingError, match="UTF-8"):
        load_keys(tmp_path / "bytes", {})


def test_a_key_removed_from_the_file_is_rejected(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "keys"
    file.write_text(ONE, encoding="utf-8")
    keys = ApiKeyFile(file)
    assert (accepts(keys, ONE), accepts(keys, OTHER)) == (True, False)
    file.write_text(f"{OTHER}\n", encoding="utf-8")
    clock.turn(CHECK_SECONDS)
    assert (accepts(keys, ONE), accepts(keys, OTHER)) == (False, True)


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_read_again(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "keys"
    file.write_text(ONE, encoding="utf-8")
    before = file.stat()
    keys = ApiKeyFile(file)
    (tmp_path / "new").write_text(ONE[::-1], encoding="utf-8")
    os.utime(tmp_path / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    (tmp_path / "new").replace(file)
    clock.turn(CHECK_SECONDS)
    assert (accepts(keys, ONE), accepts(keys, ONE[::-1])) == (False, True)


def test_a_secret_that_changes_by_a_link_is_read_again(tmp_path: Path, clock: Clock) -> None:
    """As the kubelet does it: keys -> ..data/keys, ..data -> a new folder, replaced in one step."""
    for folder, key in (("first", ONE), ("second", OTHER)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "keys").write_text(key, encoding="utf-8")
    (tmp_path / "..data").symlink_to("first")
    (tmp_path / "keys").symlink_to("..data/keys")
    keys = ApiKeyFile(tmp_path / "keys")
    (tmp_path / "next").symlink_to("second")
    (tmp_path / "next").replace(tmp_path / "..data")
    clock.turn(CHECK_SECONDS)
    assert (accepts(keys, ONE), accepts(keys, OTHER)) == (False, True)


def test_the_file_is_checked_once_per_second_and_read_only_after_a_change(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    file.write_text(ONE, encoding="utf-8")
    keys = ApiKeyFile(file)
    called: Counter[str] = Counter()
    file_version, read_keys = module._file_version, module._read_keys

    def counted_version(file: Path) -> module.FileVersion | None:
        called["checks"] += 1
        return file_version(file)

    def counted_read(file: Path) -> ApiKeys:
        called["reads"] += 1
        return read_keys(file)

    monkeypatch.setattr(module, "_file_version", counted_version)
    monkeypatch.setattr(module, "_read_keys", counted_read)
    for _ in range(40):
        clock.turn(CHECK_SECONDS / 8)
        assert accepts(keys, ONE)
    assert called == {"checks": 5}
    file.write_text(f"{ONE}\n{OTHER}", encoding="utf-8")
    for _ in range(40):
        clock.turn(CHECK_SECONDS / 8)
        assert accepts(keys, ONE)
    assert called == {"checks": 10, "reads": 1}


@pytest.mark.parametrize("spoil", ["delete", "empty", "short", "bytes", "option", "defect"])
def test_without_valid_keys_in_the_file_all_keys_are_rejected_after_the_grace_period(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    file = tmp_path / "keys"
    file.write_text(ONE, encoding="utf-8")
    keys = ApiKeyFile(file)
    contents = {"empty": b"", "short": b"short\n", "bytes": b"\xff\xfe"}
    contents |= {"option": f"{OTHER} limit==600".encode(), "defect": OTHER.encode()}
    read = module._read_keys
    if spoil == "defect":
        monkeypatch.setattr(module, "_read_keys", lambda _: {}[OTHER])
    file.unlink() if spoil == "delete" else file.write_bytes(contents[spoil])
    with caplog.at_level(logging.ERROR):
        for _ in range(int(GRACE_SECONDS / CHECK_SECONDS)):
            clock.turn(CHECK_SECONDS)
            assert accepts(keys, ONE), "the file may be just being written"
            assert not accepts(keys, "")
            assert not accepts(keys, "short")
        for _ in range(5):
            clock.turn(CHECK_SECONDS)
            assert not accepts(keys, ONE)
    assert caplog.text.count("stay valid for 10 s") == caplog.text.count("All requests are rejected until") == 1
    assert ONE not in caplog.text
    assert OTHER not in caplog.text
    monkeypatch.setattr(module, "_read_keys", read)
    file.write_text(f"{OTHER}\n", encoding="utf-8")
    clock.turn(CHECK_SECONDS)
    assert (accepts(keys, ONE), accepts(keys, OTHER)) == (False, True)


def test_keys_of_the_environment_are_read_once(clock: Clock) -> None:
    environment = {"CXR_API_KEYS": ONE}
    keys = load_keys(None, environment)
    environment["CXR_API_KEYS"] = OTHER
    clock.turn(CHECK_SECONDS)
    assert keys is not None
    assert (accepts(keys, ONE), accepts(keys, OTHER)) == (True, False)


def test_a_key_has_a_name_a_limit_and_a_last_day() -> None:
    lines = [f"ward-3:{ONE}", f"{OTHER}", f"lab:{OTHER}-lab  limit=60 until=2999-12-31", "", "x:" + "k:" * 9]
    keys = parse_keys(lines, "keys")
    named = [(key.name, key.per_minute, key.until) for key in keys.keys]
    assert named == [("ward-3", None, None), ("key-2", None, None), ("lab", 60, date(2999, 12, 31)), ("x", None, None)]
    found = [keys.find(key) for key in (ONE, OTHER, f"{OTHER}-lab", "k:" * 9)]
    assert found == list(keys.keys)
    assert keys.find(f"ward-3:{ONE}") is None


def test_a_key_is_rejected_from_the_day_after_its_last(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = parse_keys([f"{ONE} until=2027-03-31"], "keys")
    for now, valid in ((datetime(2027, 3, 31, 23, 59), True), (datetime(2027, 4, 1), False)):
        monkeypatch.setattr(module, "datetime", SimpleNamespace(now=now.replace(tzinfo=timezone.utc).astimezone))
        assert accepts(keys, ONE) == valid


def test_an_old_and_a_new_key_may_have_the_same_name() -> None:
    keys = parse_keys([f"ward:{ONE} until=2999-01-01", f"ward:{OTHER}"], "keys")
    assert [accepts(keys, ONE), accepts(keys, OTHER)] == [True, True]
    keys = parse_keys([f"ward:{ONE} until=2000-01-01", f"ward:{OTHER}"], "keys")
    assert [accepts(keys, ONE), accepts(keys, OTHER)] == [False, True]


@pytest.mark.parametrize(
    "option",
    [
        "limit=0",
        "limit=-1",
        "limit=many",
        "limit=",
        "limit==600",
        "limit=5=6",
        "limit=5 limit=6",
        "limit=1_0",
        "limit=+5",
        "limit=\u0663",
        "limit=9999999999",
        f"limit={OTHER}",
        "until=soon",
        "until=2026-13-01",
        "until=2027-03-31=",
        "until=20270331",
        "until=2027-W13-3",
    ],
)
def test_a_limit_or_day_that_is_not_valid_is_named_without_the_key_and_the_value(option: str) -> None:
    kind = option.partition("=")[0]
    with pytest.raises(ServingError, match=rf"in keys\. Received: another {kind} of ward\.") as error:
        parse_keys([f"ward:{ONE} {option}"], "keys")
    assert not {ONE, OTHER} & {*re.findall(r"[\w-]+", str(error.value))}


@pytest.mark.parametrize("option", ["limit = 600", "Until=2999-01-01", "expires=2999-01-01", OTHER, "= ="])
def test_something_else_after_a_key_is_an_error_that_does_not_repeat_it(option: str) -> None:
    with pytest.raises(ServingError, match="something else after key 2") as error:
        parse_keys([OTHER, f"ward:{ONE} {option}"], "keys")
    assert not {ONE, OTHER, "2999"} & {*re.findall(r"[\w-]+", str(error.value))}


def test_a_name_is_not_one_that_keys_without_a_name_have() -> None:
    with pytest.raises(ServingError, match="another name"):
        parse_keys([ONE, f"key-1:{OTHER}"], "keys")


def test_a_key_that_no_header_can_hold_is_an_error() -> None:
    with pytest.raises(ServingError, match="ASCII"):
        parse_keys([f"ward:{ONE}é"], "keys")


def test_keys_of_one_name_have_one_limit() -> None:
    with pytest.raises(ServingError, match=r"one limit\. Received: two of ward"):
        parse_keys([f"ward:{ONE} limit=5", f"ward:{OTHER} limit=6"], "keys")


def test_requests_above_the_limit_of_a_key_wait(clock: Clock) -> None:
    key, other = parse_keys([f"ward:{ONE} limit=30", f"lab:{OTHER}"], "keys").keys
    limits = RequestLimits()
    for _ in range(30):
        limits.take(key)
    with pytest.raises(Problem) as problem:
        limits.take(key)
    assert (problem.value.status, problem.value.headers["Retry-After"]) == (429, "2")
    for free in (other, None):
        limits.take(free)
    clock.turn(2)
    limits.take(key)
    with pytest.raises(Problem):
        limits.take(key)
    clock.turn(3600)
    for _ in range(30):
        limits.take(key)
    with pytest.raises(Problem):
        limits.take(key)
