"""Signed versions, and a registry whose files somebody else can write."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cxr_platform.errors import BundleError, ConfigError
from cxr_platform.registry.bundle import DESCRIPTION
from cxr_platform.registry.signing import (
    generate_keys,
    read_public_key,
    read_secret_key,
    signature_path,
)
from cxr_platform.registry.state import RegistryState
from cxr_platform.registry.store import Registry
from tests.registry.builders import filler

MINISIGN_KEY = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
"""The key of minisign's own documentation."""


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return generate_keys(tmp_path / "ours")


@pytest.fixture
def registry(tmp_path: Path, keys: tuple[Path, Path]) -> Registry:
    """A registry with the signed versions v1 and v2."""
    made = Registry(tmp_path / "registry")
    for name in ("v1", "v2"):
        made.add(filler())
        made.sign(name, read_secret_key(keys[0], None))
    return made


def trusting(registry: Registry, public_key: Path) -> Registry:
    return Registry(registry.root, read_public_key(str(public_key)))


def test_a_signed_version_is_opened_with_the_public_key(registry: Registry, keys: tuple[Path, Path]) -> None:
    for key in (str(keys[1]), read_public_key(str(keys[1]))):
        _, bundle = Registry(registry.root, read_public_key(key)).open("v1")
        assert bundle.version == "v1"
    assert [check.problem for check in trusting(registry, keys[1]).verify()] == [None, None]


def test_a_version_without_a_signature_or_with_another_ones_is_not_opened(
    registry: Registry, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    _, others = generate_keys(tmp_path / "others")
    with pytest.raises(
        BundleError, match=r"Expected in .*v1\.minisig a signature of v1 by the owner of the public key RW"
    ):
        trusting(registry, others).open("v1")
    registry.add(filler())
    with pytest.raises(BundleError, match="cxr registry sign VERSION"):
        trusting(registry, keys[1]).open("v3")
    signature_path(registry.root, "v1").write_text("nonsense", encoding="utf-8")
    with pytest.raises(BundleError, match="v1"):
        trusting(registry, keys[1]).open("v1")
    assert registry.open("v1")[1].version == "v1", "without a key checksums alone count"


def test_a_changed_bundle_with_new_checksums_is_not_opened(registry: Registry, keys: tuple[Path, Path]) -> None:
    """As somebody does who can write to the registry."""
    description = registry.root / "v1" / DESCRIPTION
    description.write_text(
        description.read_text(encoding="utf-8").replace('"synthetic": false', '"synthetic": true'), "utf-8"
    )
    accept_checksum(registry, "v1")
    assert registry.open("v1")[1].synthetic
    with pytest.raises(BundleError, match="signature"):
        trusting(registry, keys[1]).open("v1")


def test_a_signed_bundle_under_another_version_is_not_opened(registry: Registry, keys: tuple[Path, Path]) -> None:
    shutil.rmtree(registry.root / "v2")
    shutil.copytree(registry.root / "v1", registry.root / "v2")
    shutil.copy(signature_path(registry.root, "v1"), signature_path(registry.root, "v2"))
    accept_checksum(registry, "v2")
    with pytest.raises(BundleError, match=r"Expected the bundle of v2 in .*v2. Received: v1"):
        trusting(registry, keys[1]).open("v2")


def accept_checksum(registry: Registry, version: str) -> None:
    """Write the checksum of the present bundle.json into registry.json."""
    from cxr_platform.registry.checksums import file_checksum

    sha256 = file_checksum(registry.root / version / DESCRIPTION, BundleError).sha256
    with registry.change() as state:
        entry = state.versions[version].model_copy(update={"sha256": sha256})
        registry.write(state.model_copy(update={"versions": {**state.versions, version: entry}}))


def test_a_changed_version_is_not_signed(registry: Registry, keys: tuple[Path, Path]) -> None:
    (registry.root / "v1" / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleError):
        registry.sign("v1", read_secret_key(keys[0], None))


def test_a_version_that_changes_before_it_is_signed_is_not_signed(registry: Registry, keys: tuple[Path, Path]) -> None:
    """The signer may wait for the registry's lock for a while; what was checked before does not count then."""

    class ChangedMeanwhile(Registry):
        @contextmanager
        def change(self) -> Iterator[RegistryState]:
            (self.root / "v1" / "model.onnx").write_bytes(b"")
            with super().change() as state:
                yield state

    signature_path(registry.root, "v1").unlink()
    with pytest.raises(BundleError, match=r"model\.onnx"):
        ChangedMeanwhile(registry.root).sign("v1", read_secret_key(keys[0], None))
    assert not signature_path(registry.root, "v1").exists()


def test_a_bundle_under_another_version_is_not_signed(registry: Registry, keys: tuple[Path, Path]) -> None:
    shutil.rmtree(registry.root / "v2")
    shutil.copytree(registry.root / "v1", registry.root / "v2")
    accept_checksum(registry, "v2")
    with pytest.raises(BundleError, match="Expected the bundle of v2"):
        registry.sign("v2", read_secret_key(keys[0], None))


def test_signatures_are_those_of_minisign(registry: Registry, keys: tuple[Path, Path]) -> None:
    import minisign

    signature = minisign.Signature.from_file(signature_path(registry.root, "v1"))
    assert signature.trusted_comment == "cxr bundle v1"
    public = minisign.PublicKey.from_file(keys[1])
    public.verify((registry.root / "v1" / DESCRIPTION).read_bytes(), signature)
    assert keys[0].stat().st_mode & 0o077 == 0, "the secret key is readable to its owner alone"
    assert read_public_key(MINISIGN_KEY) == MINISIGN_KEY


def test_a_secret_key_with_a_password_needs_it(tmp_path: Path) -> None:
    import minisign

    pair = minisign.KeyPair.generate()
    pair.secret_key.encrypt("secret", opslimit=minisign.OPSLIMIT // 1000, memlimit=minisign.MEMLIMIT // 1000)
    (tmp_path / "key").write_bytes(bytes(pair.secret_key))
    assert not read_secret_key(tmp_path / "key", "secret").is_encrypted()
    with pytest.raises(ConfigError, match="and its password"):
        read_secret_key(tmp_path / "key", None)


@pytest.mark.parametrize("text", ["RWnonsense", "none.pub"])
def test_what_is_no_public_key_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match=f"Expected a public key of minisign: RW… or a file, not {text}"):
        read_public_key(text)


def test_keys_are_not_overwritten(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    before = keys[0].read_bytes()
    with pytest.raises(ConfigError, match="Expected no file at"):
        generate_keys(tmp_path / "ours")
    assert keys[0].read_bytes() == before
