from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cxr_platform.errors import ConfigError
from cxr_platform.intake.candidate import Candidate, Role
from cxr_platform.intake.overrule import Overrule
from cxr_platform.intake.sources import Inventory
from cxr_platform.manifest.cache import DecodedCache, PixelReader
from cxr_platform.manifest.records import Decoded
from cxr_platform.manifest.selection import Selection, select_images
from tests.manifest.builders import candidate, image, listed, profile, store

NOTHING = Overrule()


@pytest.fixture
def cache(tmp_path: Path) -> DecodedCache:
    return DecodedCache(tmp_path, "key")


def select(
    cache: DecodedCache,
    candidates: Sequence[Candidate],
    records: Sequence[Decoded],
    lists: Overrule = NOTHING,
    origins: dict[str, str] | None = None,
) -> Selection:
    decoded = {record.key.source_path: record for record in records}
    settings = profile(**{"intake.selection.limit": 1})
    inventory = Inventory(list(candidates), origins=origins or {})
    return select_images(inventory, decoded, lists, settings, "salt", PixelReader(cache, 200))


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


ORIGINS = {"s": "NIH", "t": "NIH"}


def test_a_patient_in_two_sources_of_one_origin_is_one_group(cache: DecodedCache) -> None:
    classes = {"s/0.png": "Normal", "t/1.png": "Edema", "u/2.png": "Effusion"}
    candidates = [candidate(file, label, patient="7") for file, label in classes.items()]
    records = store(cache, {file: image(number) for number, file in enumerate(classes)})
    selection = select(cache, candidates, records, origins=ORIGINS)
    assert selection.groups[0] == selection.groups[1] != selection.groups[2]
    assert selection.patients[0] == selection.patients[1] != selection.patients[2]
    assert len(set(select(cache, candidates, records).groups)) == 3


@pytest.mark.parametrize(("role", "refused"), [("external", "external, but"), ("outside", "an outside image, but")])
def test_an_image_that_is_only_scored_is_excluded_if_its_patient_is_studied_in_another_source_of_the_origin(
    cache: DecodedCache, role: Role, refused: str
) -> None:
    files = [f"{source}/{number}.png" for number, source in enumerate("stt")]
    label = None if role == "outside" else "Normal"
    candidates = [
        candidate(files[0], patient="7"),
        candidate(files[1], label, patient="7", role=role),
        candidate(files[2], label, patient="8", role=role),
    ]
    records = store(cache, {file: image(number) for number, file in enumerate(files)})
    selection = select(cache, candidates, records, origins=ORIGINS)
    assert [i.candidate.source_path for i in selection.images] == [files[0], files[2]]
    assert [(item.source_path, item.refusal.reason) for item in selection.excluded] == [(files[1], "duplicate")]
    assert selection.excluded[0].refusal.detail.startswith(refused)
    assert len(select(cache, candidates, records).images) == 3


def test_a_contrast_image_is_in_the_group_of_its_patient_in_another_source_of_the_origin(cache: DecodedCache) -> None:
    candidates = [candidate("s/0.png", patient="7"), candidate("t/1.png", None, patient="7", role="contrast")]
    records = store(cache, {c.source_path: image(number) for number, c in enumerate(candidates)})
    assert len(set(select(cache, candidates, records, origins=ORIGINS).groups)) == 1
    assert len(set(select(cache, candidates, records).groups)) == 2
