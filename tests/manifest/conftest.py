"""One small collection and one manifest of it, for every test that only reads them."""

import shutil
from pathlib import Path

import pytest

from cxr_platform.manifest.build import build_manifest
from cxr_platform.manifest.store import Manifest
from tests.manifest.builders import fill_cache, profile, write_collection


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_collection(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def built(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The manifest of `collection`; not to be changed."""
    destination = tmp_path_factory.mktemp("built") / "manifest"
    fill_cache(collection, destination, profile())
    return build_manifest(collection, destination, profile())


@pytest.fixture
def copy(collection: Path, built: Manifest, tmp_path: Path) -> tuple[Path, Path]:
    """A collection that may be changed, and a manifest of it with its cache."""
    data, destination = tmp_path / "data", tmp_path / "manifest"
    shutil.copytree(collection, data)
    shutil.copytree(built.folder, destination)
    shutil.copytree(built.folder.with_name("manifest.cache"), tmp_path / "manifest.cache")
    return data, destination
