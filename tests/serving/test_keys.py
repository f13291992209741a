import logging
import os
from collections import Counter
from pathlib import Path

import pytest

from cxr_platform.errors import ServingError
from cxr_platform.serving import keys as module
from cxr_platform.serving.keys import (
    GRACE_SECONDS,
    LOOK_SECONDS,
    FileKeys,
    Keys,
    check_exposure,
    find_keys,
    is_loopback,
    key_in,
)
from tests.serving.clock import Clock

ONE, OTHER = "one key of sixteen and more", "another key of sixteen"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def test_keys_of_a_file_open_and_others_do_not(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# for the ward\n{ONE}\n\n{OTHER}  # for the lab\n", encoding="utf-8")
    keys = find_keys(file, {})
    assert keys is not None
    assert keys.open_to(ONE)
    assert keys.open_to(OTHER)
    assert not keys.open_to("")
    assert not keys.open_to(ONE[:-1])
    assert not keys.open_to("\udce9")


def test_keys_come_from_the_environment_too(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(ONE, encoding="utf-8")
    for environment in ({"CXR_API_KEYS": f"{OTHER}, {ONE}"}, {"CXR_API_KEYS_FILE": str(file)}):
        keys = find_keys(None, environment)
        assert keys is not None
        assert keys.open_to(ONE)
    assert find_keys(None, {}) is None
    assert find_keys(None, {"CXR_API_KEYS": ""}) is None


def test_keys_are_kept_as_digests_only() -> None:
    assert ONE not in repr(find_keys(None, {"CXR_API_KEYS": ONE}))


@pytest.mark.parametrize("content", ["", "# nothing\n", "short\n", f"{ONE}\nshort\n"])
def test_a_file_without_good_keys_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "keys"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ServingError, match="16 characters") as error:
        find_keys(file, {})
    assert "short" not in str(error.value).replace("shortest", "")


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="readable file of API keys"):
        find_keys(tmp_path / "none", {})
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(ServingError, match="UTF-8"):
        find_keys(tmp_path / "bytes", {})


def test_a_key_that_is_taken_out_of_the_file_opens_no_longer(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "keys"
    file.write_text(ONE, encoding="utf-8")
    keys = FileKeys(file)
    assert (keys.open_to(ONE), keys.open_to(OTHER)) == (True, False)
    file.write_text(f"{OTHER}\n", encoding="utf-8")
    clock.turn(LOOK_SECONDS)
    assert (keys.open_to(ONE), keys.open_to(OTHER)) == (False, True)


def test_keys_of_the_same_size_and_time_are_seen_too(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "keys"
    file.write_text(ONE, encoding="utf-8")
    before = file.stat()
    keys = FileKeys(file)
    (tmp_path / "new").write_text(ONE[::-1], encoding="utf-8")
    os.utime(tmp_path / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    (tmp_path / "new").replace(file)
    clock.turn(LOOK_SECONDS)
    assert (keys.open_to(ONE), keys.open_to(ONE[::-1])) == (False, True)


def test_a_secret_that_changes_by_a_link_is_followed(tmp_path: Path, clock: Clock) -> None:
    """As the kubelet does it: keys -> ..data/keys, ..data -> a folder of that moment, replaced in one step."""
    for folder, key in (("first", ONE), ("second", OTHER)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "keys").write_text(key, encoding="utf-8")
    (tmp_path / "..data").symlink_to("first")
    (tmp_path / "keys").symlink_to("..data/keys")
    keys = FileKeys(tmp_path / "keys")
    (tmp_path / "next").symlink_to("second")
    (tmp_path / "next").replace(tmp_path / "..data")
    clock.turn(LOOK_SECONDS)
    assert (keys.open_to(ONE), keys.open_to(OTHER)) == (False, True)


def test_the_file_is_looked_at_once_a_second_and_read_only_when_it_changed(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    file.write_text(ONE, encoding="utf-8")
    keys = FileKeys(file)
    called: Counter[str] = Counter()
    mark, lines = module._mark, module._lines

    def counted_mark(file: Path) -> module.Mark | None:
        called["looks"] += 1
        return mark(file)

    def counted_lines(file: Path) -> list[str]:
        called["reads"] += 1
        return lines(file)

    monkeypatch.setattr(module, "_mark", counted_mark)
    monkeypatch.setattr(module, "_lines", counted_lines)
    for _ in range(40):
        clock.turn(LOOK_SECONDS / 8)
        assert keys.open_to(ONE)
    assert called == {"looks": 5}
    file.write_text(f"{ONE}\n{OTHER}", encoding="utf-8")
    for _ in range(40):
        clock.turn(LOOK_SECONDS / 8)
        assert keys.open_to(ONE)
    assert called == {"looks": 10, "reads": 1}


@pytest.mark.parametrize("spoil", ["delete", "empty", "short", "bytes"])
def test_a_file_without_good_keys_lets_in_nobody_new_and_soon_nobody(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, spoil: str
) -> None:
    file = tmp_path / "keys"
    file.write_text(ONE, encoding="utf-8")
    keys = FileKeys(file)
    contents = {"empty": b"", "short": b"short\n", "bytes": b"\xff\xfe"}
    file.unlink() if spoil == "delete" else file.write_bytes(contents[spoil])
    with caplog.at_level(logging.ERROR):
        for _ in range(int(GRACE_SECONDS / LOOK_SECONDS)):
            clock.turn(LOOK_SECONDS)
            assert keys.open_to(ONE), "a writer may be under way"
            assert not keys.open_to("")
            assert not keys.open_to("short")
        for _ in range(5):
            clock.turn(LOOK_SECONDS)
            assert not keys.open_to(ONE)
    assert caplog.text.count("go on for 10 s") == caplog.text.count("Nobody is let in until") == 1
    assert ONE not in caplog.text
    file.write_text(OTHER, encoding="utf-8")
    clock.turn(LOOK_SECONDS)
    assert (keys.open_to(ONE), keys.open_to(OTHER)) == (False, True)


def test_keys_of_the_environment_stay(clock: Clock) -> None:
    environment = {"CXR_API_KEYS": ONE}
    keys = find_keys(None, environment)
    environment["CXR_API_KEYS"] = OTHER
    clock.turn(LOOK_SECONDS)
    assert keys is not None
    assert (keys.open_to(ONE), keys.open_to(OTHER)) == (True, False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org", ""])
def test_without_keys_nothing_but_loopback_may_be_listened_on(host: str) -> None:
    with pytest.raises(ServingError, match="--keys"):
        check_exposure(host, None)
    check_exposure(host, Keys((bytes(32),)))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    check_exposure(host, None)
    assert is_loopback(host)


def test_nobody_is_not_on_loopback() -> None:
    assert not is_loopback(None)


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"authorization": "Bearer abc"}, "abc"),
        ({"authorization": "bearer  abc "}, "abc"),
        ({"x-api-key": "abc"}, "abc"),
        ({"authorization": "Basic abc"}, ""),
        ({}, ""),
    ],
)
def test_a_key_is_found_in_two_headers(headers: dict[str, str], key: str) -> None:
    assert key_in(headers) == key
