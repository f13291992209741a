"""Words of public collections: names of columns, classes, ages and sexes, and their synonyms."""

import re
from collections.abc import Mapping
from types import MappingProxyType

COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "file": ("filename", "file", "path"),
        "finding": ("label", "finding"),
        "patient": ("patient", "patient_id", "patientid", "patient id"),
        "view": ("view", "view position"),
        "sex": ("sex", "patient sex", "patient gender"),
        "age": ("age", "patient age"),
        "modality": ("modality",),
    }
)
"""Names of the columns of a table, in lower case, by what they state; if a table has several, the first one counts."""

SYNONYMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Covid19": ("covid", "covid 19", "covid19", "sars cov 2", "corona", "coronavirus", "ncov", "2019 ncov"),
        "Edema": ("edema", "oedema", "pulmonary edema", "pulmonary oedema", "lung edema"),
        "Effusion": ("effusion", "pleural effusion"),
        "Emphysema": ("emphysema", "copd", "chronic obstructive pulmonary disease"),
        "Fibrosis": ("fibrosis", "pulmonary fibrosis", "lung fibrosis"),
        "Pneumonia": ("pneumonia", "bacterial pneumonia", "viral pneumonia", "pneumonia bacterial", "pneumonia viral"),
        "Normal": ("normal", "healthy", "no finding", "no findings", "nofinding"),
    }
)
"""Names of the seven classes in the form that `plain` returns."""

CLASS_OF: Mapping[str, str] = MappingProxyType({name: label for label, names in SYNONYMS.items() for name in names})
NO_FINDING = frozenset({"no finding", "no findings", "nofinding"})
"""Synonyms of Normal that state the absence of a finding, which may or may not mean Normal to a collection's author."""

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([YMWD]?)", re.IGNORECASE)
_UNITS_PER_YEAR = {"": 1.0, "Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}
_MAX_AGE_YEARS = 120.0


def plain(name: str) -> str:
    """Return `name` in lower case with single spaces for hyphens and underscores: `covid 19` for `COVID-19`."""
    return " ".join(re.sub(r"[-_]+", " ", name.casefold()).split())


def class_of(name: str) -> str | None:
    """Return the class that the name of a folder or a finding stands for, or `None`."""
    return CLASS_OF.get(plain(name))


def parse_age(text: str) -> float | None:
    """Return years from `58`, `058Y` or `006M`; `None` for other text (`50+`) and for more than 120 years."""
    match = _AGE.fullmatch(text.strip())
    if match is None:
        return None
    years = float(match[1]) / _UNITS_PER_YEAR[match[2].upper()]
    return years if years <= _MAX_AGE_YEARS else None


def parse_sex(text: str) -> str | None:
    """Return `M` or `F` from M, F, male, Female, …; `None` for other text."""
    first = text.strip()[:1].upper()
    return first if first in ("M", "F") else None
