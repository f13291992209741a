from pathlib import Path

import pytest

from cxr_platform.registry.store import Registry
from cxr_platform.serving.champion_watcher import ChampionWatcher
from cxr_platform.serving.screener import Screener
from tests.serving.builders import registry_with_champion


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return registry_with_champion(tmp_path / "registry")


@pytest.fixture
def screener(registry: Registry) -> Screener:
    return Screener(*registry.open(), threads=1)


@pytest.fixture
def champion(registry: Registry) -> ChampionWatcher[Screener]:
    return ChampionWatcher(registry, lambda folder, bundle: Screener(folder, bundle, threads=1))
