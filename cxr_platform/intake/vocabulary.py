"""Words of public collections: names of columns, classes, views, ages, sexes and absent patients, with synonyms."""

import re
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "file": (
            *("filename", "file", "path", "imageindex", "imagename", "imagefilename", "imageid", "imagepath"),
            *("image", "img", "imagefile", "filepath", "dicomid", "pathtoimage", "sopinstanceuid", "imagen", "fichero"),
            *("archivo", "nombrearchivo", "rutaimagen"),
        ),
        "finding": (
            *("label", "finding", "findings", "findinglabels", "labels", "class", "classname", "diagnosis", "category"),
            *("hallazgo", "hallazgos", "diagnostico", "etiqueta", "etiquetas", "clase"),
        ),
        "patient": (
            *("patient", "patientid", "subjectid", "subject", "participant", "participantid", "patientkey"),
            *("deidpatientid", "idpatient", "pid", "paciente", "idpaciente", "pacienteid", "sujeto", "participante"),
        ),
        "view": (
            *(
                "view",
                "viewposition",
                "projection",
                "appa",
                "viewpositiondicom",
                "imageview",
                "orientation",
                "position",
            ),
            *("frontallateral", "proyeccion", "vista", "posicion"),
        ),
        "sex": (*("sex", "gender", "patientsex", "patientgender", "patientsexdicom"), *("sexo", "genero")),
        "age": (
            *("age", "patientage", "ageyears", "ageatcxr", "patientagedicom", "anchorage"),
            *("edad", "edadpaciente"),
        ),
        "modality": ("modality", "modalitydicom", "modalidad"),
    }
)
"""Names of the columns of a table, in the form that `column_key` returns, by what they state.

The spellings are those of NIH, CheXpert, MIMIC, PadChest, VinDr, RSNA, BIMCV and of Spanish tables. If a table has
several columns for one thing, the first one with a value counts. A year of birth is no age and is not read.
"""

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

_AGE = re.compile(
    r"(\d+(?:[.,]\d+)?)\s*(y|yr|yrs|years?|a|años?|anos?|m|months?|mes|meses|w|weeks?|d|days?)?\.?(?: old)?"
)
_UNITS_PER_YEAR = {"": 1.0, "y": 1.0, "a": 1.0, "m": 12.0, "w": 52.18, "d": 365.25}
_MAX_AGE_YEARS = 120.0

_SEXES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("m", "male", "man", "boy", "h", "hombre", "masculino", "varon", "varón", "masc"), "M"),
        **dict.fromkeys(("f", "female", "woman", "girl", "mujer", "femenino", "hembra", "fem"), "F"),
    }
)

_FRONTAL = re.compile(
    r"(pa|ap|frontal|front|postero ?anterior|antero ?posterior|antero ?posterieur|pos ?ant|posterior anterior"
    r"|anterior posterior|p a|a p|portable ap|supine ap|erect pa|erect ap|portable)\b"
)
_NOT_FRONTAL = re.compile(
    r"(l|ll|rl|lat|lateral|lateralis|l lateral|left lateral|right lateral|laterales|perfil|costal|oblique|oblicua|rao"
    r"|lao|rpo|lpo|obl|llo|rlo|lld|rld|ll?at|rlat|llat|decubitus|axial|coronal|sagittal|lordotic|swimmer|swimmers"
    r"|xtable lateral|cross table lateral|lateral izquierda|lateral derecha)\b"
)

_NO_PATIENT = re.compile(
    r"|anon[^0-9]*|.*\banonym.*|removed|unknown|none|null|nan|na|n/?a|nil|not? (?:available|given|known|specified)"
    r"|not? stated|missing|unspecified|undefined|redacted|hidden|deleted|withheld|confidential|de ?identified.*"
    r"|no name|noname|empty|patient|patient ?id|id|test|dummy|[0?x.*# ]+|desconocid[oa]"
    r"|an[oó]nim[oa]|eliminad[oa]|unbekannt|inconnu"
    r"|entfernt"
)


def plain(name: str) -> str:
    """Return `name` in lower case with single spaces for hyphens and underscores: `covid 19` for `COVID-19`."""
    return " ".join(re.sub(r"[-_]+", " ", name.casefold()).split())


def class_of(name: str) -> str | None:
    """Return the class that the name of a folder or a finding stands for, or `None`."""
    return CLASS_OF.get(plain(name))


def column_key(name: str) -> str:
    """Return a column's name in lower case without accents, spaces and signs: `viewposition` for `View Position`."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    return "".join(character for character in letters if character.isalnum())


def view_kind(text: str) -> Literal["frontal", "other"] | None:
    """Return "frontal" for a PA or AP view, "other" for a lateral or any further one, `None` for a text not understood.

    `AP Supine`, `POSTERO_ANTERIOR` and `antero-posterior` are frontal; `L`, `LL`, `LATERAL` and `Axial` are other.
    """
    words = " ".join(re.sub(r"[\W_]+", " ", text.casefold()).split())
    if re.search(r"\b(lateral|lat|oblique|decubitus)\b", words) or _NOT_FRONTAL.match(words):
        return "other"
    return "frontal" if _FRONTAL.match(words) else None


def names_no_patient(text: str) -> bool:
    """Return True for an identifier that stands for no patient: empty, `REMOVED`, `unknown`, `anonymous`, `0`, `none`.

    `ANON0042` is the pseudonym of one patient, `ANON` is not.
    """
    return text.strip() == "-1" or _NO_PATIENT.fullmatch(plain(text).strip("<>[]()^ ")) is not None


def parse_age(text: str) -> float | None:
    """Return years from `58`, `058Y`, `006M`, `45 years`; `None` for other text (`50+`) and for more than 120 years."""
    match = _AGE.fullmatch(text.strip().casefold())
    if match is None:
        return None
    years = float(match[1].replace(",", ".")) / _UNITS_PER_YEAR[(match[2] or "")[:1]]
    return years if years <= _MAX_AGE_YEARS else None


def parse_sex(text: str) -> str | None:
    """Return `M` or `F` from M, F, male, Female, Mujer, Hombre, …; `None` for other text."""
    return _SEXES.get(text.strip().casefold())
