from pathlib import Path

import pytest

from cxr_platform.errors import ConfigError
from cxr_platform.storage.paths import absolute, is_remote, parse_path


@pytest.mark.parametrize("text", ["runs", "/srv/cxr", "file:///srv/cxr"])
def test_a_path_and_a_file_uri_are_folders_of_this_machine(text: str) -> None:
    found = parse_path(text)
    assert isinstance(found, Path)
    assert not is_remote(found)
    assert str(found) == text.removeprefix("file://")
    assert absolute(found).is_absolute()


def test_another_uri_is_a_place_in_a_store_with_the_ways_of_a_path() -> None:
    found = parse_path("memory://test-place/runs/")
    assert is_remote(found)
    assert absolute(found) is found
    (found / "a" / "b.txt").write_text("x")
    assert [file.name for file in found.glob("*/*.txt")] == ["b.txt"]
    assert found.name == "runs"


def test_a_file_uri_is_quoted_and_a_path_is_not() -> None:
    assert parse_path("file:///srv/chest%20images") == Path("/srv/chest images")
    assert parse_path("/srv/100%20") == Path("/srv/100%20")


@pytest.mark.parametrize("text", ["s3://bucket/x", "s3a://bucket/x", "http://127.0.0.1/x"])
def test_no_store_remembers_listings_unless_what_is_there_is_settled(text: str) -> None:
    assert parse_path(text).fs.dircache.use_listings_cache is False  # type: ignore[attr-defined]
    assert parse_path(text, cache_listings=True).fs.dircache.use_listings_cache  # type: ignore[attr-defined]


def test_what_was_written_elsewhere_is_seen(store: dict[str, str]) -> None:
    here, elsewhere = parse_path("s3://images/place/file"), parse_path("s3://images/place/file")
    assert not here.exists()
    elsewhere.write_text("x")
    assert here.exists()


@pytest.mark.parametrize("text", ["nonsense://bucket/x", "gs://bucket/x"])
def test_a_scheme_that_nothing_here_reads_is_refused_with_what_to_install(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"{text}.*gcsfs"):
        parse_path(text)
