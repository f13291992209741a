from collections import Counter

import pytest

from cxr_platform.intake.phantoms.plan import FLAWS, plan_films, plan_flaws
from cxr_platform.labels import CLASSES


@pytest.mark.parametrize("per_class", [1, 2, 17])
def test_every_class_has_exactly_the_films_asked_for(per_class: int):
    films = plan_films(per_class, 0)
    assert Counter(film.key.label for film in films) == dict.fromkeys(CLASSES, per_class)


def test_a_larger_plan_begins_with_the_smaller_one():
    small, large = plan_films(5, 9), plan_films(60, 9)
    assert set(small) <= set(large)
    assert plan_flaws(60, 9)[:7] == plan_flaws(5, 9)[:7]


def test_names_and_patients_are_unique_and_tell_nothing_of_the_class():
    files = [*plan_films(60, 4), *plan_flaws(60, 4)]
    assert len({file.name for file in files}) == len(files)
    owner: dict[str, tuple[str, int]] = {}
    for file in files:
        patient = (file.key.label, file.key.patient)
        assert owner.setdefault(file.patient_id, patient) == patient
        assert not any(label.lower() in file.name.lower() for label in CLASSES)


def test_patients_have_one_to_three_films():
    counts = Counter(film.patient_id for film in plan_films(100, 1))
    assert set(counts.values()) == {1, 2, 3}


def test_formats_are_shared_out_alike_in_all_classes():
    films = plan_films(400, 2)
    for label in CLASSES:
        share = Counter(film.container for film in films if film.key.label == label)
        assert 0.08 < (share["dicom"] + share["dicom-inverted"]) / 400 < 0.23
        assert 0.5 < share["png"] / 400 < 0.7
        assert min(share[c] for c in ("dicom-inverted", "png16", "png-rgb", "jpeg")) > 0


def test_all_films_of_a_patient_are_dicom_or_none_is():
    kinds: dict[str, set[bool]] = {}
    for film in (film for film in plan_films(100, 2) if not film.copy):
        kinds.setdefault(film.patient_id, set()).add(film.container.startswith("dicom"))
    assert all(len(kind) == 1 for kind in kinds.values())


def test_one_film_stands_twice_under_two_patients_of_one_class():
    (copy,) = [film for film in plan_films(20, 11) if film.copy == "exact"]
    assert copy.original is not None
    assert copy.original.patient_id != copy.patient_id
    assert copy.original.key.label == copy.key.label == CLASSES[11 % 7]
    assert copy.original.copy is None


def test_some_films_are_copies_of_another_film_of_their_patient():
    films = plan_films(200, 3)
    copies = [film for film in films if film.copy == "re-encoded"]
    assert 0.005 < len(copies) / len(films) < 0.05
    assert all(c.original is not None and c.original.patient_id == c.patient_id for c in copies)
    assert all(c.original in films and c.original.copy is None for c in copies)


@pytest.mark.parametrize("per_class", [1, 40, 200])
def test_about_one_file_in_twenty_is_flawed_and_each_flaw_is_there(per_class: int):
    flaws = plan_flaws(per_class, 0)
    assert {flaw.flaw for flaw in flaws} == set(FLAWS)
    if per_class >= 40:
        assert len(flaws) / (len(flaws) + 7 * per_class) == pytest.approx(0.05, abs=0.005)


def test_flaws_meet_all_classes_alike():
    flaws = plan_flaws(400, 0)[: 7 * 20]
    assert Counter(flaw.key.label for flaw in flaws) == dict.fromkeys(CLASSES, 20)
    assert len({(flaw.flaw, flaw.key.label) for flaw in flaws}) > 40
