from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cxr_platform.manifest.take_part import Choice, choose

from cxr_platform.errors import ConfigError
from cxr_platform.intake.candidate import Candidate
from cxr_platform.intake.overrule import Overrule
from cxr_platform.manifest.cache import DecodedCache, PixelReader
from cxr_platform.manifest.records import Decoded
from tests.manifest.builders import candidate, image, listed, profile, store

NOTHING = Overrule()


@pytest.fixture
def cache(tmp_path: Path) -> DecodedCache:
    return DecodedCache(tmp_path, "key")


def decide(
    cache: DecodedCache, candidates: Sequence[Candidate], records: Sequence[Decoded], lists: Overrule = NOTHING
) -> Choice:
    decoded = {record.key.source_path: record for record in records}
    settings = profile(**{"intake.selection.limit": 1})
    return choose(candidates, decoded, lists, settings, "salt", PixelReader(cache, 200))


def test_an_external_image_whose_twin_was_not_drawn_stays(cache: DecodedCache) -> None:
    paths = ("s/0.png", "s/1.png", "x/0.png", "x/1.png")
    candidates = [candidate(path, role="external" if path.startswith("x") else "study") for path in paths]
    choice = decide(cache, candidates, store(cache, {path: image(int(path[2])) for path in paths}))
    study, external = (taken.candidate.source_path for taken in choice.taken)
    assert {study[2], external[2]} == {"0", "1"}
    assert {item.source_path: item.refusal.reason for item in choice.excluded} == {
        f"s/{external[2]}.png": "not-drawn",
        f"x/{study[2]}.png": "duplicate",
    }


def test_an_allow_list_that_has_no_effect_is_an_error(cache: DecodedCache) -> None:
    lists = Overrule(allow=frozenset({"s/ct.png"}))
    with pytest.raises(ConfigError, match=r"s/ct\.png: modality"):
        decide(
            cache, [candidate("s/0.png"), listed("s/ct.png", "modality")], store(cache, {"s/0.png": image(0)}), lists
        )


@pytest.mark.parametrize(("told", "count"), [(None, 1), ("p1", 0)])
def test_images_whose_patient_only_the_header_names_are_counted(
    cache: DecodedCache, told: str | None, count: int
) -> None:
    (record,) = store(cache, {"s/0.png": image(0)})
    assert record.facts is not None
    named = record._replace(facts=replace(record.facts, patient_id="0f"))
    assert decide(cache, [candidate("s/0.png", patient=told)], [named]).header_patients == count
