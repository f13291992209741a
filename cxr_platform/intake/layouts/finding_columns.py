"""Tables with a column for each finding, as CheXpert, MIMIC-CXR and VinDr-CXR publish them, in English or Spanish.

A cell has 1 for a finding that is present, 0 for one that is absent, -1 for an uncertain one, or nothing.
"""

from collections.abc import Mapping, Sequence

from cxr_platform.intake.vocabulary import CLASS_OF, class_of, column_key, folded

FURTHER_FINDINGS = (
    # NIH ChestX-ray14
    *("atelectasis", "cardiomegaly", "consolidation", "hernia", "infiltration", "mass", "nodule", "pneumothorax"),
    *("pleural thickening",),
    # CheXpert, MIMIC-CXR
    *("enlarged cardiomediastinum", "lung opacity", "airspace opacity", "lung lesion", "pleural other", "fracture"),
    *("support devices",),
    # VinDr-CXR
    *("aortic enlargement", "calcification", "clavicle fracture", "enlarged pa", "ild", "interstitial lung disease"),
    *("lung cavity", "lung cyst", "lung tumor", "mediastinal shift", "nodule mass", "rib fracture", "other lesion"),
    *("other disease", "other diseases", "tuberculosis"),
    # PadChest
    *("alveolar pattern", "aortic elongation", "bronchiectasis", "costophrenic angle blunting", "hiatal hernia"),
    *("hilar enlargement", "infiltrates", "interstitial pattern", "laminar atelectasis", "pacemaker", "scoliosis"),
    *("pseudonodule", "air trapping", "granuloma"),
    # Spanish
    *("atelectasia", "bronquiectasias", "calcificación", "cardiomegalia", "consolidación", "dispositivos"),
    *("escoliosis",),
    *("engrosamiento pleural", "fractura", "hernia de hiato", "infiltrado", "infiltrados", "lesión pulmonar"),
    *("marcapasos", "masa", "neumotórax", "nódulo", "opacidad pulmonar", "patrón alveolar", "patrón intersticial"),
)
"""Findings of public collections that are none of the seven classes."""

FINDING_COLUMNS: Mapping[str, str] = {column_key(name): name for name in (*FURTHER_FINDINGS, *CLASS_OF)}
"""Columns that stand for one finding, in the form of `column_key`, with the finding in words."""

_PRESENT = frozenset({"x", "+", "true", "t", "yes", "y", "si", "present", "positive", "presente", "positivo"})


def finding_columns(header: Sequence[str]) -> dict[str, str]:
    """Return the columns of `header` (names as written) that stand for one finding: `column_key` → the finding.

    The finding is named as in the header if that is how the vocabulary spells its class.
    """
    keys = {column_key(name): name for name in header}
    return {
        key: name if class_of(name) == class_of(FINDING_COLUMNS[key]) else FINDING_COLUMNS[key]
        for key, name in keys.items()
        if key in FINDING_COLUMNS
    }


def present_findings(row: Mapping[str, str], columns: Mapping[str, str]) -> str:
    """Return the findings that `row` marks as present, separated by bars; uncertain ones (-1) are not present."""
    return "|".join(finding for key, finding in columns.items() if _is_present(row.get(key, "")))


def _is_present(value: str) -> bool:
    try:
        return float(value.replace(",", ".")) == 1
    except ValueError:
        return folded(value) in _PRESENT
