"""Words of public collections: names of columns, classes, views, ages, sexes and absent patients, with synonyms."""

import re
import unicodedata
from collections.abc import Collection, Mapping
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
            *("hallazgo", "hallazgos", "diagnostico", "etiqueta", "etiquetas", "clase", "classlabel"),
        ),
        "patient": (
            *("patient", "patientid", "subjectid", "subject", "participant", "participantid", "patientkey"),
            *("deidpatientid", "idpatient", "pid", "paciente", "idpaciente", "pacienteid", "sujeto", "participante"),
            *(
                "patientnumber",
                "patientno",
                "patientnr",
                "nhc",
                "nopaciente",
                "npaciente",
                "nropaciente",
                "nodepaciente",
                "numeropaciente",
            ),
            *("numerodepaciente", "mrn", "medicalrecordnumber", "numerodehistoriaclinica"),
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
        "sex": (
            *("sex", "gender", "patientsex", "patientgender", "patientsexdicom", "patientssex"),
            *("sexo", "genero"),
        ),
        "age": (
            *("age", "patientage", "ageyears", "ageatcxr", "patientagedicom", "anchorage", "patientsage"),
            *("edad", "edadpaciente", "edadanos"),
        ),
        "modality": ("modality", "modalitydicom", "modalidad"),
        "body_part": ("bodypart", "bodyparts", "bodypartexamined", "bodypartexamineddicom", "partedelcuerpo"),
    }
)
"""Names of the columns of a table, in the form that `column_key` returns, by what they state.

The spellings are those of NIH, CheXpert, MIMIC, PadChest, VinDr, RSNA, BIMCV and of Spanish tables. If a table has
several columns for one thing, the first one with a value counts. A year of birth is no age and is not read.
"""

SYNONYMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Covid19": ("covid", "covid 19", "covid19", "sars cov 2", "corona", "coronavirus", "ncov", "2019 ncov"),
        "Edema": ("edema", "oedema", "pulmonary edema", "pulmonary oedema", "lung edema", "edema pulmonar"),
        "Effusion": ("effusion", "pleural effusion", "derrame", "derrame pleural"),
        "Emphysema": ("emphysema", "copd", "chronic obstructive pulmonary disease", "enfisema", "epoc"),
        "Fibrosis": ("fibrosis", "pulmonary fibrosis", "lung fibrosis", "fibrosis pulmonar"),
        "Pneumonia": (
            *("pneumonia", "bacterial pneumonia", "viral pneumonia", "pneumonia bacterial", "pneumonia viral"),
            "neumonia",
        ),
        "Normal": (
            *("normal", "healthy", "no finding", "no findings", "nofinding"),
            *("sano", "sana", "sin hallazgo", "sin hallazgos"),
        ),
    }
)
"""Names of the seven classes in the form that `plain` returns, in English and Spanish."""

CLASS_OF: Mapping[str, str] = MappingProxyType({name: label for label, names in SYNONYMS.items() for name in names})
NO_FINDING = frozenset({"no finding", "no findings", "nofinding", "sin hallazgo", "sin hallazgos"})
"""Synonyms of Normal that state the absence of a finding, which may or may not mean Normal to a collection's author."""

_NO_STATEMENT = re.compile(
    r"\W*|to ?do|tbd|pending|unknown|unclear|undetermined|uncertain|not (given|known|available|stated|specified)"
    r"|n ?/? ?a|nan|null|none|desconocid[oa]|pendiente"
)
_MAYBE_COVID19 = re.compile(r"covid|corona|ncov|sars[-_ ]*cov")

_AGE = re.compile(r"(\d+(?:[.,]\d+)?)\s*(y|yr|yrs|years?|a|anos?|m|months?|mes|meses|w|weeks?|d|days?)?\.?(?: old)?")
_UNITS_PER_YEAR = {"": 1.0, "y": 1.0, "a": 1.0, "m": 12.0, "w": 52.18, "d": 365.25}
_MAX_AGE_YEARS = 120.0

_SEXES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("m", "male", "man", "boy", "h", "hombre", "masculino", "varon", "masc", "v", "homme"), "M"),
        **dict.fromkeys(("f", "female", "woman", "girl", "mujer", "femenino", "hembra", "fem", "femme", "w"), "F"),
    }
)

_FRONTAL = re.compile(
    r"(pa|ap|frontal|front|postero ?anterior|antero ?posterior|antero ?posterieur|pos ?ant|posterior anterior"
    r"|anterior posterior|p a|a p|portable ap|supine ap|erect pa|erect ap|portable)\b"
)
_NOT_FRONTAL = re.compile(
    r"(l|ll|rl|lat|lateral|lateralis|l lateral|left lateral|right lateral|laterales|perfil|costal|oblique|oblicua|rao"
    r"|lao|rpo|lpo|obl|llo|rlo|lld|rld|ll?at|rlat|llat|decubitus|axial|coronal|sagittal|lordotic|swimmer|swimmers"
    r"|xtable lateral|cross table lateral|lateral izquierda|lateral derecha|latero ?lateral|profil|seitlich)\b"
)
_SURELY_NOT_FRONTAL = re.compile(r"\b(laterale?s?|lat|oblique|oblicua|decubitus|lld|rld|lordotic|lordotica)\b")
"""Words that make a view other wherever they stand in it."""
_DESCRIBED_FRONTAL = re.compile(r"\b(?:(?P<PA>pa|p a|postero ?anterior)|(?P<AP>ap|a p|antero ?posterior)|frontal)\b")
_DESCRIBED_OTHER = re.compile(
    r"\b(lateral|laterale|lat|latero ?lateral|oblique|obl|lld|rld|llo|rlo|perfil|profil|seitlich|lordotic)\b"
)
_SEVERAL_VIEWS = re.compile(r"\b(?:views|vws|[2-9] ?(?:view|vw|v))\b")
VIEW_CODES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("272479007", "R-40888", "R-10214"), "PA"),
        **dict.fromkeys(("399348003", "R-10206"), "AP"),
        **dict.fromkeys(("399033003", "R-10202"), "FRONTAL"),
        **dict.fromkeys(("399067008", "R-102CD"), "LATERAL"),
        **dict.fromkeys(("399173006", "R-10236"), "LEFT LATERAL"),
        **dict.fromkeys(("399198007", "R-10232"), "RIGHT LATERAL"),
        **dict.fromkeys(("399352003", "R-10228", "399260004", "R-10224"), "LATERAL"),
        **dict.fromkeys(("30730003", "G-A145"), "SAGITTAL"),
        **dict.fromkeys(("399061009", "R-10241"), "AXIAL"),
        **dict.fromkeys(
            (
                *("399182000", "R-102C1", "399184004", "R-10238", "399236003", "R-10234", "399160007", "R-10204"),
                *("399059000", "R-10216", "399312000", "R-10208", "399135007", "R-10220", "399356000", "R-40985"),
                *("399006002", "R-10212", "399038007", "R-10210", "260427002", "R-40783", "260426006", "R-40782"),
            ),
            "OBLIQUE",
        ),
    }
)
"""Views of a chest by their code in SNOMED CT and in its older form (SRT): PS3.16, CID 4010."""

_CHEST = re.compile(r"chest|thora|torax|lung|\bribs?\b|ribcage|costal|pulm|poumon|\bcxr\b")
_OTHER_BODY_PARTS: Mapping[str, str] = MappingProxyType(
    {
        "SPINE": r"\w*spine\b|spinal|columna|rachis|\w*wirbel|vertebra",
        "ABDOMEN": r"abd\b|abdom",
        "ANKLE": r"ankle|calcan|tobillo|sprunggelenk|cheville",
        "ARM": r"arm\b|upper (?:limb|arm)|humer|forearm|antebra|unterarm|oberarm",
        "BREAST": r"breast|mamma?\b|mama\b",
        "CLAVICLE": r"clavic",
        "ELBOW": r"elbow|codo\b|ellenbogen|coude\b",
        "EXTREMITY": r"(?:upper |lower )?extremit",
        "FINGER": r"finger|thumb|dedo\b",
        "FOOT": r"foot|feet|toes?\b|pie\b|pied\b|fuss\b|piede\b",
        "HAND": r"hand\b|hands\b|mano\b",
        "HEAD": r"head|skull|brain|cran|schadel|schaedel|face\b|facial|eyes?\b|orbit|nose\b|nasal|sinus|paranasal",
        "HIP": r"hips?\b|hufte|huefte|hanche|cadera",
        "JAW": r"jaw|mandib|maxill|zygom|tooth|teeth|dental",
        "KNEE": r"knees?\b|patell|knie|rodilla|genou|ginocchio",
        "LEG": r"legs?\b|lower (?:limb|leg)|femur|thigh|tibia|fibula|calf\b|unterschenkel|oberschenkel",
        "NECK": r"neck|cuello|hals\b|larynx|cervi",
        "PELVIS": r"pelvi|becken|sacr|coccy|ilium|bassin",
        "SHOULDER": r"shoulder|scapul|schulter|hombro|epaule|spalla",
        "STERNUM": r"stern",
        "WRIST": r"wrist|muneca|handgelenk|poignet|polso",
    }
)
"""Beginnings of words for parts of the body that no chest radiograph is named after, in several languages."""
_OTHER_BODY_PART = re.compile(
    r"\b(?:" + "|".join(f"(?P<{part}>{words})" for part, words in _OTHER_BODY_PARTS.items()) + ")"
)

_NO_PATIENT = re.compile(r"#?n[./ ]?[ad]\.?|[0?x.*# ]+|anon\D*|\D*\banonym\D*|de ?identified\D*|pseudonymi[sz]ed|-1")
"""Texts that stand for no patient. With a number (`Anonymous-0042`) they are the pseudonym of one patient."""
_NOBODY = frozenset(
    {
        *("removed", "unknown", "unk", "none", "null", "nan", "nil"),
        *("available", "given", "known", "specified", "stated"),
        *("missing", "unspecified", "undefined", "redacted", "hidden", "deleted", "withheld", "confidential", "masked"),
        *("blank", "empty", "noname", "name", "patient", "patientid", "id", "test", "dummy", "no"),
        *("desconocido", "desconocida", "anonimo", "anonima", "eliminado", "eliminada", "datos", "dato", "consta"),
        *("disponible", "paciente", "unbekannt", "entfernt", "inconnu"),
    }
)
"""Words that stand for no patient, alone and beside each other: `REMOVED`, `ID REMOVED`, `UNKNOWN^UNKNOWN`."""
_BESIDE_NOBODY = frozenset({"by", "ctp", "not", "the", "sin", "hay", "se", "of", "de", "del"})
"""Words that stand for no patient beside those of `_NOBODY` only: `REMOVED BY CTP`, `sin datos`."""


def folded(text: str) -> str:
    """Return `text` in lower case without accents, whatever its Unicode form: `neumonia` for `Neumonía`."""
    if text.isascii():
        return text.lower()
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).casefold()


def plain(name: str) -> str:
    """Return `name` `folded`, with single spaces for hyphens and underscores: `covid 19` for `COVID-19`."""
    return " ".join(re.sub(r"[-_\u2010-\u2015]+", " ", folded(name)).split())


def class_of(name: str) -> str | None:
    """Return the class that the name of a folder or a finding stands for, or `None`."""
    return CLASS_OF.get(plain(name))


def names_other_finding(text: str) -> bool:
    """Return True for a finding that is stated and names none of the seven classes, in no part of a list or path.

    `todo`, `unknown`, `suspected COVID` and `Pneumonia/Bacterial` are not such findings, `SARS` and `Mass|Nodule` are.
    """
    return not (_NO_STATEMENT.fullmatch(plain(text)) or names_class(text))


def names_class(text: str) -> bool:
    """Return True for a finding that names one of the seven classes in any part of a list or path, or maybe Covid19."""
    return bool(_MAYBE_COVID19.search(folded(text))) or any(class_of(part) for part in re.split(r"[,/|;]", text))


def column_key(name: str) -> str:
    """Return a column's name in lower case without accents, spaces and signs: `viewposition` for `View Position`."""
    return "".join(character for character in folded(name) if character.isalnum())


def view_kind(text: str) -> Literal["frontal", "other"] | None:
    """Return "frontal" for a PA or AP view, "other" for a lateral or any further one, `None` for a text not understood.

    `AP Supine`, `POSTERO_ANTERIOR` and `antero-posterior` are frontal; `L`, `LL`, `LATERAL` and `Axial` are other.
    """
    if other_view(text):
        return "other"
    return "frontal" if _FRONTAL.match(_words(text)) else None


def other_view(text: str) -> str | None:
    """Return the words, in upper case, by which a view is a lateral or any further one than PA and AP, else `None`.

    They are of this module, never the text itself, which in a DICOM header may hold anything.
    """
    words = _words(text)
    match = _SURELY_NOT_FRONTAL.search(words) or _NOT_FRONTAL.match(words)
    return match[0].upper() if match else None


def described_view(text: str) -> str | None:
    """Return the view that the description of a series or protocol states, `None` unless it is unequivocal.

    `Thorax seitlich` is SEITLICH and `CHEST PA` is PA; `CHEST PA AND LATERAL` and `CHEST 2 VIEWS` state no view of one
    image. A decubitus is no frontal view, although its beam is AP.
    """
    words = _words(text)
    if re.search(r"\bdecubitus\b", words):
        return "DECUBITUS"
    frontal, other = list(_DESCRIBED_FRONTAL.finditer(words)), _DESCRIBED_OTHER.search(words)
    if (frontal and other) or _SEVERAL_VIEWS.search(words):
        return None
    if other:
        return other[0].upper()
    named = {match.lastgroup for match in frontal} - {None}
    return named.pop() if len(named) == 1 else None


def other_body_part(text: str) -> str | None:
    """Return the part of the body, a key of `_OTHER_BODY_PARTS`, that a text names in place of the chest, else `None`.

    `HAND`, `LSPINE` and `Thoracic spine` are other parts; `CHEST`, `CHESTABDOMEN`, `RIBCAGE`, an empty text and one
    that is not understood are not. As with `other_view`, the result never quotes the text.
    """
    words = _words(text)
    parts = [match.lastgroup for match in _OTHER_BODY_PART.finditer(words)]
    if "SPINE" in parts:  # also the thoracic one
        return "SPINE"
    return parts[0] if parts and not _CHEST.search(words) else None


def _words(text: str) -> str:
    """Return `text` in lower case without accents, with single spaces for all signs."""
    return " ".join(re.sub(r"[\W_]+", " ", folded(text)).split())


def names_no_patient(text: str) -> bool:
    """Return True for an identifier that stands for no patient: empty, `REMOVED`, `unknown`, `anonymous`, `0`, `none`.

    `ANON0042` is the pseudonym of one patient, `ANON` is not.
    """
    if _NO_PATIENT.fullmatch(folded(text).strip()) or _NO_PATIENT.fullmatch(plain(text).strip("<>[]()^ ")):
        return True
    words = set(_words(text).split())
    return not words or (words <= _NOBODY | _BESIDE_NOBODY and not words.isdisjoint(_NOBODY))


def parse_age(text: str) -> float | None:
    """Return years from `58`, `058Y`, `006M`, `45 years`; `None` for other text (`50+`) and for more than 120 years."""
    match = _AGE.fullmatch(folded(text.strip()))
    if match is None:
        return None
    years = float(match[1].replace(",", ".")) / _UNITS_PER_YEAR[(match[2] or "")[:1]]
    return years if years <= _MAX_AGE_YEARS else None


def parse_sex(text: str, column: Collection[str] = ()) -> str | None:
    """Return `M` or `F` from M, F, male, Female, Mujer, Hombre, …; `None` for other text.

    `column` holds the values that stand in the same column, `folded`: beside H (hombre) or V (varón), M is a woman
    (mujer), and beside V, H is one as well (hembra).
    """
    letter = folded(text.strip())
    if (letter == "m" and ("h" in column or "v" in column)) or (letter == "h" and "v" in column):
        return "F"
    return _SEXES.get(letter)
