from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from cxr_platform.config import IntakeConfig, SelectionConfig
from cxr_platform.errors import ConfigError, ManifestError
from cxr_platform.intake.candidate import Refusal, Role
from cxr_platform.intake.overrule import Overrule
from cxr_platform.labels import CLASSES, PAPER_COUNTS
from cxr_platform.manifest.records import Decoded
from cxr_platform.manifest.selection import (
    Excluded,
    Shortfall,
    Taken,
    caps,
    check_allowed,
    draw,
    judge_files,
    part_conflicts,
    part_overlap,
    part_repeats,
)
from tests.manifest.builders import candidate, decoded, image, listed, refused

NOTHING = Overrule()


@pytest.fixture(scope="module")
def record() -> Decoded:
    return decoded("s/a.png", image(1))


def taken(record: Decoded, path: str, label: str = "Normal", pixels: str = "", role: Role = "study") -> Taken:
    """An image; those with the same `pixels` have the same pixels."""
    assert record.facts is not None
    facts = replace(record.facts, pixel_sha256=pixels or path)
    return Taken(candidate(path, label, role=role), record._replace(facts=facts))


def reasons(excluded: list[Excluded]) -> dict[str, str]:
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


def test_an_image_that_cannot_be_allowed_is_an_error_with_its_reason() -> None:
    excluded = [Excluded("s/ct.png", Refusal("modality", "modality CT"), None)]
    check_allowed(excluded, Overrule(allow=frozenset({"s/good.png"})))
    with pytest.raises(ConfigError, match=r"allow .*s/ct\.png: modality, modality CT"):
        check_allowed(excluded, Overrule(allow=frozenset({"s/ct.png"})))


def test_a_file_that_was_lost_on_the_way_is_an_error_that_names_it(record: Decoded) -> None:
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


def test_the_same_pixels_under_two_labels_are_both_taken_out(record: Decoded) -> None:
    images = [taken(record, "s/a", "Edema", "p"), taken(record, "s/b", "Fibrosis", "p"), taken(record, "s/c", "Edema")]
    kept, excluded = part_conflicts(images)
    assert [image.candidate.source_path for image in kept] == ["s/c"]
    assert reasons(excluded) == {"s/a": "conflicting-label", "s/b": "conflicting-label"}
    assert excluded[0].refusal.detail == "the same pixels stand under Edema and Fibrosis"


def test_an_external_image_of_another_label_is_taken_out_and_that_of_the_study_stays(record: Decoded) -> None:
    images = [taken(record, "s/1", "Edema", "p"), taken(record, "x/1", "Fibrosis", "p", "external")]
    images += [taken(record, f"x/{label}", label, "q", "external") for label in ("Normal", "Covid19")]
    kept, excluded = part_conflicts(images)
    assert [image.candidate.source_path for image in kept] == ["s/1"]
    assert {item.source_path: item.refusal.detail for item in excluded} == {
        "x/1": "the same pixels stand under Edema and Fibrosis",
        "x/Normal": "the same pixels stand under Covid19 and Normal",
        "x/Covid19": "the same pixels stand under Covid19 and Normal",
    }


def test_of_repeated_images_the_first_of_the_study_stays(record: Decoded) -> None:
    images = [taken(record, "a/1", pixels="p", role="external"), *(taken(record, f"s/{i}", pixels="p") for i in (1, 2))]
    kept, excluded = part_repeats(images)
    assert [image.candidate.source_path for image in kept] == ["s/1"]
    assert {item.refusal.detail for item in excluded} == {"the same pixels as s/1"}


def test_external_images_of_a_group_in_the_study_are_taken_out(record: Decoded) -> None:
    images = [taken(record, "s/1"), taken(record, "x/1", role="external"), taken(record, "x/2", role="external")]
    groups = dict(zip((image.image_id for image in images), ("g", "g", "h"), strict=True))
    kept, excluded = part_overlap(images, groups)
    assert [image.candidate.source_path for image in kept] == ["s/1", "x/2"]
    assert excluded[0].refusal.detail == "external, but of one group with s/1 of the study"


def test_the_draw_is_random_reproducible_and_leaves_external_images_alone(record: Decoded) -> None:
    images = [taken(record, f"s/{i}") for i in range(50)] + [taken(record, "x/1", role="external")]
    selection = SelectionConfig(limit=10)
    drawn = {seed: {image.image_id for image in draw(images, selection, seed)[0][0]} for seed in range(3)}
    assert {len(ids) for ids in drawn.values()} == {11}
    assert drawn[0] == {image.image_id for image in draw(images[::-1], selection, 0)[0][0]}
    assert len(drawn[0] & drawn[1]) < 10
    assert all(images[-1].image_id in ids for ids in drawn.values())


def test_an_image_that_is_added_displaces_one_at_the_most(record: Decoded) -> None:
    images = [taken(record, f"s/{i}") for i in range(51)]
    before, after = (draw(some, SelectionConfig(limit=10), 0)[0][0] for some in (images[:50], images))
    assert len({image.image_id for image in before} - {image.image_id for image in after}) <= 1


def test_a_shortfall_is_told(record: Decoded) -> None:
    images = [taken(record, f"s/{label}", label) for label in CLASSES]
    (kept, excluded), shortfalls = draw(images, SelectionConfig(caps="paper"), 0)
    assert (len(kept), len(excluded)) == (7, 0)
    assert shortfalls[0] == Shortfall("Covid19", 455, 1)
    assert len(shortfalls) == 7


def test_caps_are_the_papers_or_the_limit_whichever_is_less() -> None:
    assert caps(SelectionConfig()) == {}
    assert caps(SelectionConfig(caps="paper")) == dict(PAPER_COUNTS)
    assert Counter(caps(SelectionConfig(caps="paper", limit=300)).values())[300] == 5
    assert set(caps(SelectionConfig(limit=5)).values()) == {5}


def test_an_image_id_follows_from_the_path_within_the_collections(record: Decoded) -> None:
    image = taken(record, "s/1")
    elsewhere = Taken(replace(image.candidate, path=Path("/elsewhere/1")), image.decoded)
    assert image.image_id == elsewhere.image_id != taken(record, "s/2").image_id
    assert len(image.image_id) == 16
