from pathlib import Path

import pytest

from cxr_platform.errors import ConfigError
from cxr_platform.storage.paths import absolute, is_remote, parse_path


@pytest.mark.parametrize("text", ["runs", "/srv/cxr", "file:///srv/cxr"])
def test_a_path_and_a_file_uri_are_local(text: str) -> None:
    path = parse_path(text)
    assert isinstance(path, Path)
    assert not is_remote(path)
    assert str(path) == text.removeprefix("file://")
    assert absolute(path).is_absolute()


def test_another_uri_is_a_remote_path() -> None:
    path = parse_path("memory://test-place/runs/")
    assert is_remote(path)
    assert absolute(path) is path
    (path / "a" / "b.txt").write_text("x")
    assert [file.name for file in path.glob("*/*.txt")] == ["b.txt"]
    assert path.name == "runs"


def test_a_file_uri_is_unquoted_and_a_path_is_not() -> None:
    assert parse_path("file:///srv/chest%20images") == Path("/srv/chest images")
    assert parse_path("/srv/100%20") == Path("/srv/100%20")


@pytest.mark.parametrize("text", ["s3://bucket/x", "s3a://bucket/x", "http://127.0.0.1/x"])
def test_listings_of_a_store_are_cached_on_request_only(text: str) -> None:
    assert parse_path(text).fs.dircache.use_listings_cache is False  # type: ignore[attr-defined]
    assert parse_path(text, cache_listings=True).fs.dircache.use_listings_cache  # type: ignore[attr-defined]


def test_a_file_written_through_another_path_object_exists(store: dict[str, str]) -> None:
    here, elsewhere = parse_path("s3://images/place/file"), parse_path("s3://images/place/file")
    assert not here.exists()
    elsewhere.write_text("x")
    assert here.exists()


@pytest.mark.parametrize("text", ["nonsense://bucket/x", "gs://bucket/x"])
def test_the_error_for_an_unknown_scheme_says_what_to_install(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"{text}.*gcsfs"):
        parse_path(text)
