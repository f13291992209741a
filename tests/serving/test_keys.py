from pathlib import Path

import pytest

from cxr_platform.errors import ServingError
from cxr_platform.serving.keys import Keys, check_exposure, find_keys, is_loopback, key_in

ONE, OTHER = "one key of sixteen and more", "another key of sixteen"


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
