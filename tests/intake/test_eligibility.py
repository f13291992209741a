from dataclasses import dataclass, replace

import pytest

from cxr_platform.config import IntakeConfig, SelectionConfig
from cxr_platform.intake.candidate import REASONS, UNFIT, Refusal
from cxr_platform.intake.eligibility import (
    classes_by_name,
    judge_body_part,
    judge_dicom_modality,
    judge_findings,
    judge_image,
    judge_table_modality,
    judge_view,
)
from cxr_platform.intake.quality import QualityMeasures

ALL = SelectionConfig()
GOOD = QualityMeasures(colour=0, side=500, aspect=1.1, contrast=0.6, std=0.2, flat_fraction=0.1, uprightness=0.8)


@pytest.mark.parametrize(
    "modality",
    [
        *("X-ray", "xray", "X ray", "CR", "dx", "", "RX", "Radiografía", "Radiography", "CXR", "CR/DX", "RG"),
        *("Computed Radiography", "['CR', 'DX']", "X-Ray chest", "Rayos X", "DR, es"),
    ],
)
def test_table_modalities_of_radiographs_are_accepted(modality: str) -> None:
    assert judge_table_modality(modality) is None


@pytest.mark.parametrize(
    "modality",
    [
        *("CT", "MR", "X-ray CT", "['CT']", "US", "RF", "PT", "SEG", "['KO', 'SR']", "Computed Tomography"),
        *("Tomografía", "Resonancia", "ultrasound", "TAC", "Mammography", "angiografía"),
    ],
)
def test_other_table_modalities_are_refused(modality: str) -> None:
    assert judge_table_modality(modality) == Refusal("modality", modality)


def test_a_dicom_ct_is_a_radiograph_only_as_a_secondary_capture_with_a_projection() -> None:
    assert judge_dicom_modality("CT", "PA", secondary_capture=True) is None
    for view, secondary_capture in (("PA", False), (None, True)):
        assert judge_dicom_modality("CT", view, secondary_capture) == Refusal("modality", "DICOM: Modality CT")


@pytest.mark.parametrize(("view", "frontal"), [("PA", True), ("AP Supine", True), (None, True), ("L", False)])
def test_views_other_than_frontal_are_refused(view: str | None, frontal: bool) -> None:
    assert (judge_view(view, ALL) is None) is frontal
    assert judge_view(view, SelectionConfig(frontal_only=False)) is None


@dataclass(frozen=True)
class Decoded:
    view: str | None = "PA"
    other_body_part: str | None = None
    for_processing: bool = False
    quality: QualityMeasures = GOOD


def test_a_frontal_radiograph_of_a_chest_may_be_used() -> None:
    assert judge_image(Decoded(), IntakeConfig()) is None
    assert judge_image(Decoded(view=None), IntakeConfig()) is None


@pytest.mark.parametrize(
    ("image", "refusal"),
    [
        (Decoded(view="LL"), Refusal("view", "view LL")),
        (Decoded(other_body_part="HAND"), Refusal("body-part", "body part HAND")),
        (Decoded(for_processing=True), Refusal("for-processing", "export the image of the series FOR PRESENTATION")),
        (Decoded(quality=replace(GOOD, colour=0.3)), Refusal("colour", "colour 0.30, most 0.07")),
        (Decoded(quality=replace(GOOD, side=64)), Refusal("low-resolution", "shorter side 64 pixels, least 100")),
    ],
)
def test_an_image_is_unfit_for_one_of_the_listed_reasons(image: Decoded, refusal: Refusal) -> None:
    assert judge_image(image, IntakeConfig()) == refusal
    assert refusal.reason in UNFIT
    assert refusal.reason in REASONS


def test_the_settings_decide() -> None:
    every_view = IntakeConfig(selection=SelectionConfig(frontal_only=False))
    assert judge_image(Decoded(view="LATERAL"), every_view) is None


@pytest.mark.parametrize(
    ("stated", "of_file", "usable"), [("PA", "LL", True), ("L", "PA", False), ("n/a", "LL", False), ("", "LL", False)]
)
def test_a_view_that_the_table_states_comes_before_that_of_the_file(stated: str, of_file: str, usable: bool) -> None:
    assert (judge_image(Decoded(view=of_file), IntakeConfig(), stated) is None) is usable


@pytest.mark.parametrize(("view", "detail"), [("Lateral^DOE", "view LATERAL"), ("LL doe", "view LL")])
def test_a_refusal_does_not_quote_the_header(view: str, detail: str) -> None:
    assert judge_view(view, ALL) == Refusal("view", detail)


def test_other_parts_of_the_body_are_refused() -> None:
    assert judge_body_part("KNEE") == Refusal("body-part", "body part KNEE")
    assert judge_body_part("CHEST") is None


@pytest.mark.parametrize(
    ("findings", "label", "reason"),
    [
        (["Edema"], "Edema", None),
        ([" Edema ", "Mass"], "Edema", None),
        (["COPD", "emphysema"], "Emphysema", None),
        (["Edema", "COPD"], None, "several-findings"),
        (["Mass"], None, "finding-not-studied"),
        (["", " "], None, "no-finding-given"),
        (["No Finding", "Aortic enlargement"], None, "further-findings"),
        (["normal", "nodule"], None, "further-findings"),
        (["No Finding", "Support Devices"], "Normal", None),
        (["normal", "pacemaker"], "Normal", None),
        (["Normal", "No finding"], "Normal", None),
    ],
)
def test_judge_findings_returns_the_one_class_or_a_reason(
    findings: list[str], label: str | None, reason: str | None
) -> None:
    judged, refusal = judge_findings(findings, classes_by_name(ALL), ALL)
    assert judged == label
    assert (refusal.reason if refusal else None) == reason
    assert refusal is None or refusal.reason in REASONS


def test_further_findings_are_refused_with_single_finding_only() -> None:
    label, refusal = judge_findings(["Edema", "Mass"], classes_by_name(ALL), SelectionConfig(single_finding_only=True))
    assert (label, refusal) == ("Edema", Refusal("further-findings", "findings Edema, Mass"))


def test_no_finding_is_a_class_only_if_it_counts_as_normal() -> None:
    assert classes_by_name(ALL)["no finding"] == "Normal"
    strict = classes_by_name(SelectionConfig(no_finding_is_normal=False))
    assert "no finding" not in strict
    assert strict["healthy"] == "Normal"
    without = SelectionConfig(no_finding_is_normal=False)
    assert judge_findings(["Normal", "No finding"], strict, without) == ("Normal", None)
