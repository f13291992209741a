import pytest

from cxr_platform.intake.vocabulary import CLASS_OF, NO_FINDING, SYNONYMS, class_of, parse_age, parse_sex, plain
from cxr_platform.labels import CLASSES


def test_every_class_has_synonyms_in_plain_form() -> None:
    assert tuple(SYNONYMS) == CLASSES
    assert all(plain(name) == name for name in CLASS_OF)
    assert {CLASS_OF[name] for name in NO_FINDING} == {"Normal"}


def test_no_name_is_a_synonym_of_two_classes() -> None:
    assert len(CLASS_OF) == sum(map(len, SYNONYMS.values()))


@pytest.mark.parametrize(
    ("name", "label"), [("COVID-19", "Covid19"), ("Pleural__Effusion ", "Effusion"), ("hernia", None), ("", None)]
)
def test_class_of_ignores_case_and_separators(name: str, label: str | None) -> None:
    assert class_of(name) == label


@pytest.mark.parametrize(
    ("text", "years"), [("58", 58.0), (" 058Y ", 58.0), ("006M", 0.5), ("6.5", 6.5), ("50+", None), ("121", None)]
)
def test_parse_age_returns_years(text: str, years: float | None) -> None:
    assert parse_age(text) == years


@pytest.mark.parametrize(("text", "sex"), [("M", "M"), (" female", "F"), ("O", None), ("", None)])
def test_parse_sex_returns_m_or_f(text: str, sex: str | None) -> None:
    assert parse_sex(text) == sex
