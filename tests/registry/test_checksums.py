import pytest

from cxr_platform.errors import BundleError
from cxr_platform.registry.checksums import check_bytes, check_contents, stamps


def test_stamps_are_of_every_member_and_hold(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "description").write_bytes(b"")
    found = stamps(tmp_path, ["a"], besides="description")

    assert found["a"].bytes == 3
    assert found["a"].sha256.startswith("ba7816bf8f01cfea")
    check_contents(tmp_path, found, besides="description")
    check_bytes(tmp_path / "a", b"abc", found["a"].sha256)


def test_bytes_of_another_hash_are_refused(tmp_path):
    with pytest.raises(BundleError, match="as it was made, SHA-256 00"):
        check_bytes(tmp_path / "a", b"abc", "00" * 32)


def test_an_empty_folder_inside_is_refused_too(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    found = stamps(tmp_path, ["a"], besides="description")
    (tmp_path / "__pycache__").mkdir()

    with pytest.raises(BundleError, match="also __pycache__"):
        check_contents(tmp_path, found, besides="description")
