from collections import Counter

import pytest

from cxr_platform.intake.phantoms.plan import FLAWS, plan_flaws, plan_images
from cxr_platform.labels import CLASSES


@pytest.mark.parametrize("per_class", [1, 2, 17])
def test_every_class_has_the_requested_number_of_images(per_class: int):
    images = plan_images(per_class, 0)
    assert Counter(image.key.label for image in images) == dict.fromkeys(CLASSES, per_class)


def test_a_larger_plan_begins_with_the_smaller_one():
    small, large = plan_images(5, 9), plan_images(60, 9)
    assert set(small) <= set(large)
    assert plan_flaws(60, 9)[:7] == plan_flaws(5, 9)[:7]


def test_names_and_patients_are_unique_and_do_not_reveal_the_class():
    files = [*plan_images(60, 4), *plan_flaws(60, 4)]
    assert len({file.name for file in files}) == len(files)
    owner: dict[str, tuple[str, int]] = {}
    for file in files:
        patient = (file.key.label, file.key.patient)
        assert owner.setdefault(file.patient_id, patient) == patient
        assert not any(label.lower() in file.name.lower() for label in CLASSES)


def test_patients_have_one_to_three_images():
    counts = Counter(image.patient_id for image in plan_images(100, 1))
    assert set(counts.values()) == {1, 2, 3}


def test_formats_have_the_same_shares_in_all_classes():
    images = plan_images(400, 2)
    for label in CLASSES:
        share = Counter(image.container for image in images if image.key.label == label)
        assert 0.08 < (share["dicom"] + share["dicom-inverted"]) / 400 < 0.23
        assert 0.5 < share["png"] / 400 < 0.7
        assert min(share[c] for c in ("dicom-inverted", "png16", "png-rgb", "jpeg")) > 0


def test_all_images_of_a_patient_are_dicom_or_none_is():
    kinds: dict[str, set[bool]] = {}
    for image in (image for image in plan_images(100, 2) if not image.copy):
        kinds.setdefault(image.patient_id, set()).add(image.container.startswith("dicom"))
    assert all(len(kind) == 1 for kind in kinds.values())


def test_one_image_is_repeated_under_another_patient_of_its_class():
    (copy,) = [image for image in plan_images(20, 11) if image.copy == "exact"]
    assert copy.original is not None
    assert copy.original.patient_id != copy.patient_id
    assert copy.original.key.label == copy.key.label == CLASSES[11 % 7]
    assert copy.original.copy is None


def test_some_images_are_copies_of_another_image_of_their_patient():
    images = plan_images(200, 3)
    copies = [image for image in images if image.copy == "re-encoded"]
    assert 0.005 < len(copies) / len(images) < 0.05
    assert all(c.original is not None and c.original.patient_id == c.patient_id for c in copies)
    assert all(c.original in images and c.original.copy is None for c in copies)


@pytest.mark.parametrize("per_class", [1, 40, 200])
def test_about_one_file_in_twenty_is_flawed_and_each_flaw_is_there(per_class: int):
    flaws = plan_flaws(per_class, 0)
    assert {flaw.flaw for flaw in flaws} == set(FLAWS)
    if per_class >= 40:
        assert len(flaws) / (len(flaws) + 7 * per_class) == pytest.approx(0.05, abs=0.005)


def test_flaws_are_spread_evenly_over_the_classes():
    flaws = plan_flaws(400, 0)[: 7 * 20]
    assert Counter(flaw.key.label for flaw in flaws) == dict.fromkeys(CLASSES, 20)
    assert len({(flaw.flaw, flaw.key.label) for flaw in flaws}) > 40
