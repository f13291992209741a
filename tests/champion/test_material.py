"""Parts that do not belong together are no material for a bundle."""

import pytest

from cxr_platform.errors import ConfigError, StudyMismatch
from tests.champion.builders import material


def test_the_champion_of_the_study_is_accepted() -> None:
    material().check("scratch")


@pytest.mark.parametrize(
    ("identity", "told"),
    [({"strategy": "fine-tuning-1"}, "one of fine-tuning-1, manifest b3f0c4de"), ({"manifest": "f00"}, "manifest f00")],
)
def test_another_one_is_refused_with_what_it_is(identity: dict[str, str], told: str) -> None:
    with pytest.raises(StudyMismatch, match=f"Received: .*{told}"):
        material(**identity).check("scratch")


def test_settings_that_this_version_does_not_know_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = material()
    config = {**parts.manifest.info["config"], "decoding": {"unheard": 1}}
    monkeypatch.setitem(parts.manifest.info, "config", config)
    with pytest.raises(ConfigError, match="decoding: expected one of the keys"):
        _ = parts.preprocessing
