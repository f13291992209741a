from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cxr_platform.errors import ConfigError
from cxr_platform.intake.candidate import Candidate
from cxr_platform.intake.overrule import Overrule
from cxr_platform.manifest.cache import DecodedCache, PixelReader
from cxr_platform.manifest.records import Decoded
from cxr_platform.manifest.selection import Selection, select_images
from tests.manifest.builders import candidate, image, listed, profile, store

NOTHING = Overrule()


@pytest.fixture
def cache(tmp_path: Path) -> DecodedCache:
    return DecodedCache(tmp_path, "key")


def select(
    cache: DecodedCache, candidates: Sequence[Candidate], records: Sequence[Decoded], lists: Overrule = NOTHING
) -> Selection:
    decoded = {record.key.source_path: record for record in records}
    settings = profile(**{"intake.selection.limit": 1})
    return select_images(candidates, decoded, lists, settings, "salt", PixelReader(cache, 200))


def test_an_external_image_stays_if_its_copy_in_the_study_was_not_drawn(cache: DecodedCache) -> None:
    paths = ("s/0.png", "s/1.png", "x/0.png", "x/1.png")
    candidates = [candidate(path, role="external" if path.startswith("x") else "study") for path in paths]
    selection = select(cache, candidates, store(cache, {path: image(int(path[2])) for path in paths}))
    study, external = (image.candidate.source_path for image in selection.images)
    assert {study[2], external[2]} == {"0", "1"}
    assert {item.source_path: item.refusal.reason for item in selection.excluded} == {
        f"s/{external[2]}.png": "not-drawn",
        f"x/{study[2]}.png": "duplicate",
    }


def test_allowing_an_image_that_its_table_excludes_is_an_error(cache: DecodedCache) -> None:
    lists = Overrule(allow=frozenset({"s/ct.png"}))
    with pytest.raises(ConfigError, match=r"s/ct\.png: modality"):
        select(
            cache, [candidate("s/0.png"), listed("s/ct.png", "modality")], store(cache, {"s/0.png": image(0)}), lists
        )


@pytest.mark.parametrize(("patient", "count"), [(None, 1), ("p1", 0)])
def test_images_whose_patient_is_known_from_the_header_alone_are_counted(
    cache: DecodedCache, patient: str | None, count: int
) -> None:
    (record,) = store(cache, {"s/0.png": image(0)})
    assert record.facts is not None
    with_patient = record._replace(facts=replace(record.facts, patient_id="0f"))
    assert select(cache, [candidate("s/0.png", patient=patient)], [with_patient]).header_patients == count


def test_a_patient_by_table_in_one_image_and_by_header_in_another_is_one_group(cache: DecodedCache) -> None:
    files = [f"s/{n}.png" for n in range(3)]
    records = store(cache, {file: image(number) for number, file in enumerate(files)})
    headers = ("0f", "0f", "1a")
    known = [
        record._replace(facts=replace(record.facts, patient_id=header))
        for record, header in zip(records, headers, strict=True)
        if record.facts is not None
    ]
    candidates = [
        candidate(files[0], "Normal", patient="p1"),
        candidate(files[1], "Edema"),
        candidate(files[2], "Effusion", patient="p2"),
    ]
    selection = select(cache, candidates, known)
    assert selection.groups[0] == selection.groups[1] != selection.groups[2]
    assert selection.patients[0] == selection.patients[1]
