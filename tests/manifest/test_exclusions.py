from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from cxr_platform.config import IntakeConfig, SelectionConfig
from cxr_platform.errors import ConfigError, ManifestError
from cxr_platform.intake.candidate import Candidate, Refusal, Role
from cxr_platform.intake.overrule import Overrule
from cxr_platform.labels import CLASSES, PAPER_COUNTS
from cxr_platform.manifest.exclusions import (
    check_allowed,
    class_limits,
    draw_images,
    exclude_conflicts,
    exclude_overlap,
    exclude_repeats,
    judge_files,
    place_contrast,
    place_outside,
)
from cxr_platform.manifest.records import Decoded, ExcludedFile, SelectedImage
from cxr_platform.manifest.schema import Shortfall
from tests.manifest.builders import candidate, decoded, image, listed, refused

NOTHING = Overrule()


@pytest.fixture(scope="module")
def record() -> Decoded:
    return decoded("s/a.png", image(1))


def selected(
    record: Decoded, path: str, label: str = "Normal", pixels: str = "", role: Role = "study"
) -> SelectedImage:
    """An image whose pixels are identified by `pixels`, by default its path."""
    assert record.facts is not None
    facts = replace(record.facts, pixel_sha256=pixels or path)
    return SelectedImage(candidate(path, label, role=role), record._replace(facts=facts))


def reasons(excluded: list[ExcludedFile]) -> dict[str, str]:
    return {item.source_path: item.refusal.reason for item in excluded}


def judge(record: Decoded, overrule: Overrule = NOTHING) -> dict[str, str]:
    """The reasons of one image of each kind."""
    assert record.facts is not None
    small = replace(record.facts, quality=replace(record.facts.quality, side=20))
    lateral = replace(record.facts, view="LATERAL")
    outcome = {
        "s/good.png": record,
        "s/text.png": refused("s/text.png"),
        "s/small.png": record._replace(facts=small),
        "s/lateral.dcm": record._replace(facts=lateral),
    }
    candidates = [*map(candidate, outcome), listed("s/ct.png", "modality")]
    kept, excluded = judge_files(candidates, outcome, overrule, IntakeConfig())
    assert len(kept) + len(excluded) == len(candidates)
    return reasons(excluded)


def test_a_file_is_excluded_by_table_content_view_or_quality(record: Decoded) -> None:
    assert judge(record) == {
        "s/text.png": "not-an-image",
        "s/small.png": "low-resolution",
        "s/lateral.dcm": "view",
        "s/ct.png": "modality",
    }


def test_the_allow_list_overrules_view_and_quality_and_nothing_else(record: Decoded) -> None:
    every = frozenset({"s/text.png", "s/small.png", "s/lateral.dcm", "s/ct.png"})
    assert judge(record, Overrule(allow=every)) == {"s/text.png": "not-an-image", "s/ct.png": "modality"}


def test_allowing_an_image_whose_reason_cannot_be_overruled_is_an_error() -> None:
    excluded = [ExcludedFile("s/ct.png", Refusal("modality", "modality CT"), None)]
    check_allowed(excluded, Overrule(allow=frozenset({"s/good.png"})))
    with pytest.raises(ConfigError, match=r"allow .*s/ct\.png: modality, modality CT"):
        check_allowed(excluded, Overrule(allow=frozenset({"s/ct.png"})))


def test_a_file_that_was_not_decoded_is_an_error(record: Decoded) -> None:
    candidates = [candidate("s/good.png"), candidate("s/lost.png"), listed("s/ct.png", "modality")]
    with pytest.raises(ManifestError, match=r"decoding s/lost\.png"):
        judge_files(candidates, {"s/good.png": record}, NOTHING, IntakeConfig())


def test_the_deny_list_overrules_everything(record: Decoded) -> None:
    denied = judge(record, Overrule(deny=frozenset({"s/good.png", "s/text.png", "s/ct.png"})))
    assert [path for path, reason in denied.items() if reason == "denied"] == ["s/good.png", "s/text.png", "s/ct.png"]


def test_the_view_of_the_table_comes_before_that_of_the_file(record: Decoded) -> None:
    assert record.facts is not None
    lateral = record._replace(facts=replace(record.facts, view="LL"))
    kept, _ = judge_files([candidate("s/a.png", view="PA")], {"s/a.png": lateral}, Overrule(), IntakeConfig())
    assert len(kept) == 1


def test_identical_pixels_with_two_labels_are_excluded(record: Decoded) -> None:
    images = [
        selected(record, "s/a", "Edema", "p"),
        selected(record, "s/b", "Fibrosis", "p"),
        selected(record, "s/c", "Edema"),
    ]
    kept, excluded = exclude_conflicts(images)
    assert [image.candidate.source_path for image in kept] == ["s/c"]
    assert reasons(excluded) == {"s/a": "conflicting-label", "s/b": "conflicting-label"}
    assert excluded[0].refusal.detail == "the same pixels have the labels Edema and Fibrosis"


def test_an_external_image_of_another_label_is_excluded_and_that_of_the_study_stays(record: Decoded) -> None:
    images = [selected(record, "s/1", "Edema", "p"), selected(record, "x/1", "Fibrosis", "p", "external")]
    images += [selected(record, f"x/{label}", label, "q", "external") for label in ("Normal", "Covid19")]
    kept, excluded = exclude_conflicts(images)
    assert [image.candidate.source_path for image in kept] == ["s/1"]
    assert {item.source_path: item.refusal.detail for item in excluded} == {
        "x/1": "the same pixels have the labels Edema and Fibrosis",
        "x/Normal": "the same pixels have the labels Covid19 and Normal",
        "x/Covid19": "the same pixels have the labels Covid19 and Normal",
    }


def test_a_contrast_image_excludes_no_other_and_gives_way_to_a_label(record: Decoded) -> None:
    images = [
        selected(record, "s/a.png", "Edema", "same"),
        replace(selected(record, "s/b.png", pixels="same", role="contrast"), candidate=contrast("s/b.png")),
        replace(selected(record, "s/c.png", pixels="own", role="contrast"), candidate=contrast("s/c.png")),
        replace(selected(record, "s/d.png", pixels="own", role="contrast"), candidate=contrast("s/d.png")),
    ]
    kept, excluded = exclude_conflicts(images)
    assert [image.candidate.source_path for image in kept] == ["s/a.png", "s/c.png", "s/d.png"]
    assert excluded[0].refusal == Refusal("conflicting-label", "a contrast image whose pixels have the label Edema")


def test_a_contrast_image_joins_the_group_of_its_patient_in_the_study(record: Decoded) -> None:
    images = [selected(record, f"s/{name}.png", role=role) for name, role in (("a", "study"), ("b", "study"))]
    images.append(selected(record, "e/c.png", role="external"))
    groups = dict(zip((image.image_id for image in images), ("A", "B", "C"), strict=True))
    added = [selected(record, f"s/{i}.png", role="contrast") for i in range(4)]
    related = [("0", frozenset("A")), ("1", frozenset("AB")), ("2", frozenset("C")), ("3", frozenset({"undrawn"}))]
    kept, own, excluded = place_contrast(added, related, images, groups)
    assert {image.candidate.source_path: own[image.image_id] for image in kept} == {"s/0.png": "A", "s/3.png": "3"}
    assert reasons(excluded) == {"s/1.png": "several-groups", "s/2.png": "duplicate"}


def contrast(source_path: str) -> Candidate:
    return candidate(source_path, None, finding="SARS", role="contrast")


def test_of_repeated_images_the_first_of_the_study_stays(record: Decoded) -> None:
    images = [
        selected(record, "a/1", pixels="p", role="external"),
        *(selected(record, f"s/{i}", pixels="p") for i in (1, 2)),
    ]
    kept, excluded = exclude_repeats(images)
    assert [image.candidate.source_path for image in kept] == ["s/1"]
    assert {item.refusal.detail for item in excluded} == {"the same pixels as s/1"}


def test_external_images_that_share_a_group_with_the_study_are_excluded(record: Decoded) -> None:
    images = [
        selected(record, "s/1"),
        selected(record, "x/1", role="external"),
        selected(record, "x/2", role="external"),
    ]
    groups = dict(zip((image.image_id for image in images), ("g", "g", "h"), strict=True))
    kept, excluded = exclude_overlap(images, groups)
    assert [image.candidate.source_path for image in kept] == ["s/1", "x/2"]
    assert excluded[0].refusal.detail == "external, but of one group with s/1 of the study"


def test_an_outside_image_whose_pixels_have_a_label_is_excluded_and_excludes_no_other(record: Decoded) -> None:
    images = [selected(record, "s/1", "Edema", "p"), selected(record, "o/1", pixels="p", role="outside")]
    images += [selected(record, "o/2", pixels="q", role="outside"), selected(record, "o/3", role="outside")]
    kept, excluded = exclude_conflicts(images)
    assert [image.candidate.source_path for image in kept] == ["s/1", "o/2", "o/3"]
    assert excluded[0].refusal == Refusal("conflicting-label", "an outside image whose pixels have the label Edema")


def test_of_equal_pixels_an_outside_image_is_kept_last(record: Decoded) -> None:
    images = [selected(record, "a/1", pixels="p", role="outside"), selected(record, "c/1", pixels="p", role="contrast")]
    kept, excluded = exclude_repeats(images)
    assert [image.candidate.source_path for image in kept] == ["c/1"]
    assert excluded[0].refusal.detail == "the same pixels as c/1"


def test_an_outside_image_that_is_linked_with_any_other_is_excluded(record: Decoded) -> None:
    roles: list[Role] = ["study", "external", "contrast"]
    others = [selected(record, f"s/{role}", role=role) for role in roles]
    outside = [selected(record, f"o/{number}", role="outside") for number in range(5)]
    groups = {image.image_id: image.candidate.role for image in others}
    linked = [frozenset({role}) for role in roles] + [frozenset({"not drawn"}), frozenset()]
    related = [(f"group-{number}", groups_of) for number, groups_of in enumerate(linked)]
    kept, own, excluded = place_outside(outside, related, others, groups)
    assert own == {outside[3].image_id: "group-3", outside[4].image_id: "group-4"}
    assert [image.candidate.source_path for image in kept] == ["o/3", "o/4"]
    details = [item.refusal.detail for item in excluded]
    assert details == [f"an outside image, but of one group with s/{role}" for role in roles]


def test_the_draw_is_random_reproducible_and_leaves_external_images_alone(record: Decoded) -> None:
    images = [selected(record, f"s/{i}") for i in range(50)] + [selected(record, "x/1", role="external")]
    selection = SelectionConfig(limit=10)
    drawn = {seed: {image.image_id for image in draw_images(images, selection, seed)[0][0]} for seed in range(3)}
    assert {len(ids) for ids in drawn.values()} == {11}
    assert drawn[0] == {image.image_id for image in draw_images(images[::-1], selection, 0)[0][0]}
    assert len(drawn[0] & drawn[1]) < 10
    assert all(images[-1].image_id in ids for ids in drawn.values())


def test_an_added_image_displaces_at_most_one_other(record: Decoded) -> None:
    images = [selected(record, f"s/{i}") for i in range(51)]
    before, after = (draw_images(some, SelectionConfig(limit=10), 0)[0][0] for some in (images[:50], images))
    assert len({image.image_id for image in before} - {image.image_id for image in after}) <= 1


def test_a_class_with_fewer_images_than_wanted_is_a_shortfall(record: Decoded) -> None:
    images = [selected(record, f"s/{label}", label) for label in CLASSES]
    (kept, excluded), shortfalls = draw_images(images, SelectionConfig(caps="paper"), 0)
    assert (len(kept), len(excluded)) == (7, 0)
    assert shortfalls[0] == Shortfall(label="Covid19", wanted=455, available=1)
    assert len(shortfalls) == 7


def test_the_limit_of_a_class_is_the_papers_or_the_profiles_whichever_is_less() -> None:
    assert class_limits(SelectionConfig()) == {}
    assert class_limits(SelectionConfig(caps="paper")) == dict(PAPER_COUNTS)
    assert Counter(class_limits(SelectionConfig(caps="paper", limit=300)).values())[300] == 5
    assert set(class_limits(SelectionConfig(limit=5)).values()) == {5}


def test_an_image_id_depends_on_the_path_within_the_collections_only(record: Decoded) -> None:
    image = selected(record, "s/1")
    elsewhere = SelectedImage(replace(image.candidate, path=Path("/elsewhere/1")), image.decoded)
    assert image.image_id == elsewhere.image_id != selected(record, "s/2").image_id
    assert len(image.image_id) == 16
