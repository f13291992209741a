"""Write an answer as a DICOM structured report: a Comprehensive 3D SR by template TID 1500 (PS3.16), with highdicom.

The model is its device observer, the probabilities and the operating point are measurements, the decision is a
qualitative evaluation, and the notice is a comment.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from pydicom import Dataset
from pydicom.sr.coding import Code

from cxr_platform.intake.dicom_source import COPIED, DicomSource
from cxr_platform.labels import CLASSES, POSITIVE_CLASS
from cxr_platform.serving.dicom_document import (
    MANUFACTURER,
    copy_attributes,
    derived_uid,
    document_attributes,
    model_name,
)
from cxr_platform.serving.schema import NOTICE, Decision, ScreenAnswer

if TYPE_CHECKING:
    from highdicom.sr import ContentSequence, Measurement, MeasurementsAndQualitativeEvaluations, ObserverContext

SCHEME = "99CXRPLATFORM"
"""Designator of the codes for which DICOM and SNOMED CT have none; 99 marks a private scheme (PS3.16, section 8.2)."""

CLASS_CODES: Mapping[str, Code] = MappingProxyType(
    dict(
        zip(
            CLASSES,
            (
                Code("840539006", "SCT", "COVID-19"),
                Code("19242006", "SCT", "Pulmonary edema"),
                Code("60046008", "SCT", "Pleural effusion"),
                Code("87433001", "SCT", "Pulmonary emphysema"),
                Code("51615001", "SCT", "Fibrosis of lung"),
                Code("233604007", "SCT", "Pneumonia"),
                Code("17621005", "SCT", "Normal"),
            ),
            strict=True,
        )
    )
)
DECISION_CODES: Mapping[Decision, Code] = MappingProxyType(
    {
        "positive": Code("10828004", "SCT", "Positive"),
        "negative": Code("260385009", "SCT", "Negative"),
        "indeterminate": Code("82334004", "SCT", "Indeterminate"),
        "not-screenable": Code("NOT-SCREENABLE", SCHEME, "Not screenable"),
    }
)
CHEST_RADIOGRAPH = Code("399208008", "SCT", "Plain chest X-ray")
RADIOGRAPH = Code("363680008", "SCT", "Radiographic imaging procedure")
COMMENT = Code("121106", "DCM", "Comment")
FINDING = Code("121071", "DCM", "Finding")
DECISION = Code("DECISION", SCHEME, "COVID-19 screening decision")
THRESHOLD = Code("THRESHOLD", SCHEME, "Threshold of the COVID-19 probability")
TARGET = Code("TARGET-SENS", SCHEME, "Target sensitivity for COVID-19")
ZONE_LOW = Code("ZONE-LOW", SCHEME, "Lower end of the indeterminate zone for COVID-19")
ZONE_HIGH = Code("ZONE-HIGH", SCHEME, "Upper end of the indeterminate zone for COVID-19")
MOST_PROBABLE = Code("MOST-PROBABLE", SCHEME, "Most probable class")
PERCENT = Code("%", "UCUM", "Percent")


def structured_report(answer: ScreenAnswer, source: DicomSource) -> Dataset:
    """Return a Comprehensive 3D SR with the answer."""
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from highdicom.sr import Comprehensive3DSR, MeasurementReport, ObservationContext

    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_observer(answer)),
        # An image that is not screenable may be of another body part.
        procedure_reported=RADIOGRAPH if answer.findings else CHEST_RADIOGRAPH,
        imaging_measurements=[_group(answer, source)],
    )
    report = Comprehensive3DSR(
        evidence=[_evidence(source)],
        content=content[0],
        is_complete=True,
        coding_schemes=[
            CodingSchemeIdentificationItem(
                SCHEME, name="Codes of cxr-platform", responsible_organization=MANUFACTURER, version="1"
            )
        ],
        **document_attributes(answer, source, "report"),
    )
    copy_attributes(source, report, COPIED)
    return report


def _observer(answer: ScreenAnswer) -> "ObserverContext":
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObserverContext
    from pydicom.sr.codedict import codes

    return ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=derived_uid(answer),
            name=f"CXR screening {answer.model.version}",
            manufacturer_name=MANUFACTURER,
            model_name=model_name(answer),
            serial_number=answer.model.version,
        ),
    )


def _group(answer: ScreenAnswer, source: DicomSource) -> "MeasurementsAndQualitativeEvaluations":
    """Return the measurement group (TID 1501): probabilities, operating point, decision, notice.

    It has no Finding of its own, because a class is not found in the image before a physician says so.
    """
    from highdicom.sr import (
        AlgorithmIdentification,
        MeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
    )

    evaluations = [QualitativeEvaluation(DECISION, DECISION_CODES[answer.decision])]
    evaluations[0][0].ContentSequence = _about(CLASS_CODES[POSITIVE_CLASS])
    if answer.label is not None:
        evaluations.append(QualitativeEvaluation(MOST_PROBABLE, CLASS_CODES[answer.label]))
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=derived_uid(answer, source.sop_instance_uid, "tracking"), identifier="CXR screening"
        ),
        algorithm_id=AlgorithmIdentification(
            name=f"{MANUFACTURER} {answer.model.strategy}", version=answer.model.version, manufacturer=MANUFACTURER
        ),
        measurements=[*_probabilities(answer), *_rule(answer)],
        qualitative_evaluations=evaluations,
        source_images=[SourceImageForMeasurementGroup(source.sop_class_uid, source.sop_instance_uid)],
    )
    group[0].ContentSequence.extend(map(_comment, _comments(answer)))
    return group


def _probabilities(answer: ScreenAnswer) -> "Iterator[Measurement]":
    """Yield the probability of each class. Its name states the class, since not every viewer shows modifiers."""
    for label, probability in (answer.probabilities or {}).items():
        concept = CLASS_CODES[label]
        yield _percent(Code(f"P-{label.upper()}", SCHEME, f"Probability of {concept.meaning}"), probability, concept)


def _rule(answer: ScreenAnswer) -> "Iterator[Measurement]":
    """Yield the operating point, by which the probability of Covid19 became the decision."""
    point, concept = answer.operating_point, CLASS_CODES[POSITIVE_CLASS]
    yield _percent(THRESHOLD, point.threshold, concept)
    yield _percent(ZONE_LOW, point.zone[0], concept)
    yield _percent(ZONE_HIGH, point.zone[1], concept)
    yield _percent(TARGET, point.target_sensitivity, concept)


def _percent(code: Code, fraction: float, concept: Code) -> "Measurement":
    """Return a measurement about the class `concept`."""
    from highdicom.sr import Measurement

    measurement = Measurement(name=code, value=round(100 * fraction, 4), unit=PERCENT)
    measurement[0].ContentSequence = _about(concept)
    return measurement


def _about(concept: Code) -> "ContentSequence":
    """Return the modifier by which a content item is about a class."""
    from highdicom.sr import CodeContentItem, ContentSequence, RelationshipTypeValues

    modifier = CodeContentItem(name=FINDING, value=concept, relationship_type=RelationshipTypeValues.HAS_CONCEPT_MOD)
    return ContentSequence([modifier])


def _comments(answer: ScreenAnswer) -> Iterator[str]:
    yield NOTICE
    yield answer.reason
    for finding in answer.findings:
        yield f"{finding.message}: {finding.detail}"
    if answer.model.synthetic:
        yield "The model was trained on drawn images and is not valid for patients."
    if answer.explanation is not None and answer.explanation.missing is not None:
        yield answer.explanation.missing


def _comment(text: str) -> Dataset:
    from highdicom.sr import RelationshipTypeValues, TextContentItem

    item: Dataset = TextContentItem(name=COMMENT, value=text, relationship_type=RelationshipTypeValues.CONTAINS)
    return item


def _evidence(source: DicomSource) -> Dataset:
    """Return the image as highdicom expects it: its UIDs, and no value of the patient, which it would log."""
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = source.sop_class_uid, source.sop_instance_uid
    image.StudyInstanceUID, image.SeriesInstanceUID = source.study_instance_uid, source.series_instance_uid
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
        setattr(image, keyword, "")
    image.StudyDate = image.StudyTime = ""
    return image
