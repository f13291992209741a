import pytest

from cxr_platform.labels import CLASSES, PAPER_COUNTS, POSITIVE_CLASS, class_index


def test_the_seven_classes_keep_the_order_of_the_papers_tables() -> None:
    assert CLASSES == ("Covid19", "Edema", "Effusion", "Emphysema", "Fibrosis", "Pneumonia", "Normal")


def test_the_papers_counts_add_up_to_its_3905_images() -> None:
    assert tuple(PAPER_COUNTS) == CLASSES
    assert sum(PAPER_COUNTS.values()) == 3905


def test_the_papers_counts_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        PAPER_COUNTS["Covid19"] = 1  # type: ignore[index]


def test_every_class_finds_its_own_position() -> None:
    assert [class_index(label) for label in CLASSES] == list(range(7))
    assert CLASSES[class_index(POSITIVE_CLASS)] == "Covid19"


def test_an_unknown_label_is_answered_with_the_seven() -> None:
    with pytest.raises(KeyError, match=r"Expected one of Covid19, .*, Normal\. Received: 'COPD'"):
        class_index("COPD")
