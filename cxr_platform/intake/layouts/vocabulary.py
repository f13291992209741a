"""The words of public collections: class names and their synonyms, views, ages, sexes."""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from cxr_platform.config import SelectionConfig
from cxr_platform.intake.candidate import Refusal

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
"""Names of the seven classes, in lower case, with spaces for hyphens and underscores."""

_CLASS_OF = {name: label for label, names in SYNONYMS.items() for name in names}
_NO_FINDING = {"no finding", "no findings", "nofinding"}
_FRONTAL = re.compile(r"(pa|ap|frontal|posteroanterior|anteroposterior)\b", re.IGNORECASE)
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([YMWD]?)", re.IGNORECASE)
_UNITS_A_YEAR = {"": 1.0, "Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}
_OLDEST_YEARS = 120.0


def plain(name: str) -> str:
    """Lower case, with single spaces for hyphens and underscores: `COVID-19` and `covid_19` are one name."""
    return " ".join(re.sub(r"[-_]+", " ", name.casefold()).split())


def class_of(name: str) -> str | None:
    """The class that a folder's or a finding's name stands for, or `None`."""
    return _CLASS_OF.get(plain(name))


def is_no_finding(name: str) -> bool:
    """Whether a finding says that there is none (which a collection's author may call Normal, or may not)."""
    return plain(name) in _NO_FINDING


def judge_view(view: str | None, selection: SelectionConfig) -> Refusal | None:
    """Refuses what the table calls another view than PA or AP. A view that is not given is taken for frontal."""
    if not selection.frontal_only or not view or _FRONTAL.match(view):
        return None
    return Refusal("view", f"view {view}")


def judge_findings(
    findings: Iterable[str], classes: Mapping[str, str], selection: SelectionConfig
) -> tuple[str | None, Refusal | None]:
    """The one class among `findings`, and why the image is refused all the same, if it is.

    `classes` maps the findings that count, in `plain` form, to classes. None of them is `finding-not-studied`, several
    are `several-findings`; others beside it are `further-findings` where `single_finding_only` is set (§2.1.3).
    """
    given = [finding.strip() for finding in findings if finding.strip()]
    text = ", ".join(given)
    if not given:
        return None, Refusal("no-finding-given", "the finding is empty")
    labels = {classes[plain(finding)] for finding in given if plain(finding) in classes}
    if not labels:
        return None, Refusal("finding-not-studied", f"finding {text}")
    if len(labels) > 1:
        return None, Refusal("several-findings", f"findings {text}")
    further = [finding for finding in given if plain(finding) not in classes]
    if selection.single_finding_only and further:
        return labels.pop(), Refusal("further-findings", f"findings {text}")
    return labels.pop(), None


def classes_by_name(selection: SelectionConfig) -> dict[str, str]:
    """Every synonym in `plain` form → class; without those of "no finding" where that is not Normal."""
    keep = selection.no_finding_is_normal
    return {name: label for name, label in _CLASS_OF.items() if keep or name not in _NO_FINDING}


def parse_age(text: str) -> float | None:
    """Years from `58`, `058Y`, `006M`; `None` for what is no age (`50+`) or above 120, which NIH's table has."""
    match = _AGE.fullmatch(text.strip())
    if match is None:
        return None
    years = float(match[1]) / _UNITS_A_YEAR[match[2].upper()]
    return years if years <= _OLDEST_YEARS else None


def parse_sex(text: str) -> str | None:
    """`M` or `F` from M, F, male, Female; else `None`."""
    first = text.strip()[:1].upper()
    return first if first in ("M", "F") else None
