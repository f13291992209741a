import pytest

from cxr_platform.config import SelectionConfig
from cxr_platform.intake.candidate import REASONS, Refusal
from cxr_platform.intake.eligibility import (
    classes_by_name,
    judge_dicom_modality,
    judge_findings,
    judge_table_modality,
    judge_view,
)

ALL = SelectionConfig()


@pytest.mark.parametrize("modality", ["X-ray", "xray", "X ray", "CR", "dx", ""])
def test_table_modalities_of_radiographs_are_accepted(modality: str) -> None:
    assert judge_table_modality(modality) is None


@pytest.mark.parametrize("modality", ["CT", "MR", "X-ray CT"])
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


@pytest.mark.parametrize(
    ("findings", "label", "reason"),
    [
        (["Edema"], "Edema", None),
        ([" Edema ", "Mass"], "Edema", None),
        (["COPD", "emphysema"], "Emphysema", None),
        (["Edema", "COPD"], None, "several-findings"),
        (["Mass"], None, "finding-not-studied"),
        (["", " "], None, "no-finding-given"),
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
