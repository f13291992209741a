"""Patients of images by the collection's key and by the DICOM header."""

from dataclasses import replace

import pytest

from cxr_platform.manifest.patient_ids import header_pseudonym, pseudonym
from cxr_platform.manifest.patients import ALIASES, ImagePatients, drop_shared_patients, image_patients
from cxr_platform.manifest.records import Decoded, SelectedImage
from tests.manifest.builders import candidate, decoded, image

SALT = "salt"


@pytest.fixture(scope="module")
def record() -> Decoded:
    return decoded("s/a.png", image(1))


def members(record: Decoded, *known: tuple[str | None, str | None], source: str = "s") -> list[SelectedImage]:
    """One image for each pair of a collection's key and an identifier in the header, of two classes in turn."""
    assert record.facts is not None
    made = []
    for number, (stated, header) in enumerate(known):
        own, anywhere = (header_pseudonym(SALT, space, header) for space in (source, ""))
        facts = replace(record.facts, patient_id=own, header_key=anywhere)
        label = "Edema" if number % 2 else "Normal"
        made.append(SelectedImage(candidate(f"{source}/{number}", label, patient=stated), record._replace(facts=facts)))
    return made


def patients(
    images: list[SelectedImage], origins: dict[str, str] | None = None
) -> tuple[list[str | None], ImagePatients]:
    known = image_patients(images, SALT, origins or {})
    return [known.patients[image.image_id] for image in images], known


def test_an_image_with_both_identifiers_links_them(record: Decoded) -> None:
    found, _ = patients(members(record, ("p1", "H1"), (None, "H1"), ("p1", None), (None, "H2"), (None, None)))
    p1 = pseudonym(SALT, "s", "p1")
    assert found == [p1, p1, p1, header_pseudonym(SALT, "s", "H2"), None]


def test_two_keys_of_a_collection_that_one_header_stands_beside_are_linked_by_it(record: Decoded) -> None:
    images = members(record, ("p1", "H1"), ("p2", "H1"), (None, "H1"))
    found, known = patients(images)
    assert len(set(known.headers.values())) == 1
    assert found[0] != found[1]  # each keeps the key of the collection
    assert found[2] in found[:2]


def test_an_equal_text_in_a_table_and_in_a_header_is_no_link(record: Decoded) -> None:
    found, _ = patients(members(record, ("1", None), (None, "1")))
    assert found[0] != found[1]


def test_a_header_of_all_images_links_no_patients(record: Decoded) -> None:
    images = members(record, *((f"p{n // 2}", "EXPORT-7") for n in range(8)))
    found, known = patients(images)
    assert len(set(found)) == 4
    assert set(known.headers.values()) == {None}
    assert known.shared == {}  # every image has its patient all the same


def test_a_header_beside_many_patients_links_none_of_them(record: Decoded) -> None:
    exported = [(f"p{n}", "EXPORT-7") for n in range(ALIASES + 1)]
    others = [(f"q{n}", f"H{n}") for n in range(10)]
    _, known = patients(members(record, *exported, *others, (None, "EXPORT-7")))
    headers = list(known.headers.values())
    assert headers[: len(exported)] == [None] * len(exported)
    assert None not in headers[len(exported) :]


def test_a_person_with_a_key_for_each_of_many_examinations_is_linked(record: Decoded) -> None:
    person = [(f"p{n}", "H") for n in range(ALIASES + 2)]
    _, known = patients(members(record, *person, *((f"q{n}", f"H{n}") for n in range(60))))
    assert len(set(list(known.headers.values())[: len(person)])) == 1
    assert next(iter(known.headers.values())) is not None


def test_identifiers_of_two_sources_are_not_linked(record: Decoded) -> None:
    found, known = patients([*members(record, ("p1", "H1")), *members(record, ("p1", "H1"), source="t")])
    assert len(set(found)) == len(set(known.headers.values())) == 2


ORIGINS = {"s": "NIH", "t": "NIH"}


def test_keys_and_headers_of_two_sources_of_one_origin_are_linked(record: Decoded) -> None:
    known = [("p1", None), (None, "H1"), ("p2", "H2"), (None, "H2")]
    first, second, third = (members(record, *known, source=source) for source in ("s", "t", "NIH"))
    found, _ = patients([*first, *second, *third], ORIGINS)
    assert found[:4] == found[4:8]
    assert len(set(found[:4])) == 3
    assert set(found[:4]).isdisjoint(found[8:])  # a source of which no origin is stated, though its name is one


def test_a_key_in_one_source_and_a_header_in_another_are_one_patient_if_an_image_of_the_origin_has_both(
    record: Decoded,
) -> None:
    images = [*members(record, ("p1", "H1"), ("p2", "H2")), *members(record, (None, "H1"), ("p2", None), source="t")]
    found, _ = patients(images, ORIGINS)
    assert found[:2] == found[2:]
    alone, _ = patients(images)
    assert set(alone[:2]).isdisjoint(alone[2:])


def test_one_identifier_of_all_images_of_an_origin_is_no_patient_though_each_source_has_one_class(
    record: Decoded,
) -> None:
    normal, edema = (
        members(record, *[(None, "EXPORT-7")] * 12, source=source)[place::2] for place, source in enumerate("st")
    )
    found, known = patients([*normal, *edema], ORIGINS)
    assert set(found) == {None}
    assert known.shared == {"s": 6, "t": 6}
    alone, known = patients([*normal, *edema])
    assert (len(set(alone)), known.shared) == (2, {})


def test_a_header_beside_many_patients_of_an_origin_links_none_of_them(record: Decoded) -> None:
    exported = [(f"p{n}", "EXPORT-7") for n in range(ALIASES - 1)]
    further = [(f"q{n}", "EXPORT-7") for n in range(ALIASES - 1)]
    others = [(f"r{n}", f"H{n}") for n in range(10)]
    _, known = patients([*members(record, *exported, *others), *members(record, *further, source="t")], ORIGINS)
    headers = list(known.headers.values())
    assert headers.count(None) == len(exported) + len(further)


def test_where_a_table_has_one_identifier_for_all_the_header_tells_patients_apart(record: Decoded) -> None:
    found, known = patients(members(record, *(("STUDY-A", f"H{n // 2}") for n in range(8))))
    assert len(set(found)) == 4
    assert None not in found
    assert known.shared == {}


def shared(labels: list[str], patients: list[str | None]) -> tuple[list[str | None], dict[str, int]]:
    """The patients that remain, and the images per source with an identifier that is no patient."""
    pixels = image(1)
    members = [SelectedImage(candidate(f"s/{i}", label), decoded(f"s/{i}", pixels)) for i, label in enumerate(labels)]
    known = {m.image_id: p for m, p in zip(members, patients, strict=True)}
    kept, numbers = drop_shared_patients(members, known, {member.image_id: "s" for member in members})
    return [kept[member.image_id] for member in members], numbers


def test_one_identifier_of_nearly_all_images_of_several_classes_is_no_patient() -> None:
    kept, numbers = shared(["Normal", "Edema"] * 5, ["x"] * 9 + ["y"])
    assert kept == [None] * 9 + ["y"]
    assert numbers == {"s": 9}


def test_images_without_an_identifier_do_not_count_for_the_share_of_a_shared_one() -> None:
    kept, numbers = shared(["Normal", "Edema"] * 10, ["x"] * 9 + ["y"] + [None] * 10)
    assert kept == [None] * 9 + ["y"] + [None] * 10
    assert numbers == {"s": 9}


@pytest.mark.parametrize(
    ("labels", "patients"),
    [
        (["Normal"] * 10, ["x"] * 10),
        (["Normal", "Edema"] * 5, ["x"] * 5 + ["y"] * 5),
        (["Normal", "Edema"], ["x", "x"]),
    ],
)
def test_a_patient_with_many_images_remains(labels: list[str], patients: list[str | None]) -> None:
    assert shared(labels, patients) == (patients, {})
