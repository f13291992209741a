import pytest

from cxr_platform.errors import BundleError, RegistryError
from cxr_platform.registry.checksums import check_bytes, check_folder, file_checksum, folder_checksums, read_bytes


def test_every_member_has_a_checksum(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "description").write_bytes(b"")
    checksums = folder_checksums(tmp_path, ["a"], besides="description")

    assert checksums["a"].bytes == 3
    assert checksums["a"].sha256.startswith("ba7816bf8f01cfea")
    check_folder(tmp_path, checksums, besides="description")
    check_bytes(tmp_path / "a", b"abc", checksums["a"].sha256)


def test_a_file_is_read_and_hashed(tmp_path):
    (tmp_path / "a").write_bytes(b"new")

    assert read_bytes(tmp_path / "a", RegistryError) == b"new"
    checksum = file_checksum(tmp_path / "a", RegistryError)
    assert checksum.bytes == 3
    assert checksum.sha256 == "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"


def test_bytes_with_another_hash_are_an_error(tmp_path):
    with pytest.raises(BundleError, match="as it was made, SHA-256 00"):
        check_bytes(tmp_path / "a", b"abc", "00" * 32)


def test_an_empty_folder_in_a_bundle_is_an_error(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    checksums = folder_checksums(tmp_path, ["a"], besides="description")
    (tmp_path / "__pycache__").mkdir()

    with pytest.raises(BundleError, match="also __pycache__"):
        check_folder(tmp_path, checksums, besides="description")
