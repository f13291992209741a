"""Write an answer as DICOM: a structured report, and the heatmap as a Secondary Capture.

The report is a Comprehensive 3D SR by template TID 1500 (PS3.16), made with highdicom: the model is its device
observer, the probabilities are measurements, the decision is a qualitative evaluation. Both objects belong to the
patient and study of the image, form new series, and refer to the image. Both are marked as research (Content
Qualification) and carry the notice where a reader sees it: in the content of the report, in the pixels of the picture,
and in the description of each series. Their UIDs are derived from image and model, so that a repeated command makes the
same objects and no second report.
"""

import base64
import io
import uuid
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset
from pydicom.sr.coding import Code

from cxr_platform.intake.dicom_source import COPIED, COPIED_TO_PICTURES, DicomSource
from cxr_platform.labels import CLASSES, POSITIVE_CLASS
from cxr_platform.serving.schema import NOTICE, Decision, ScreenAnswer

if TYPE_CHECKING:
    from highdicom.sr import ContentSequence, Measurement, MeasurementsAndQualitativeEvaluations, ObserverContext

MANUFACTURER = "cxr-platform"
SERIES_DESCRIPTION = "CXR screening: for research, not for diagnosis"
SR_SERIES, PICTURE_SERIES = 9801, 9802
"""Series numbers, high so that they follow the images; series are identified by their UIDs."""

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
PROCESSED_FROM = Code("121322", "DCM", "Source image for image processing operation")

RELEASE = version("cxr-platform")

STRIP, MARGIN, FONT_SIZE = 52, 8, 15
"""Pixels of the strip with text below the heatmap, which covers nothing of the image."""


def dicom_documents(answer: ScreenAnswer, source: DicomSource) -> list[Dataset]:
    """Return the report of an answer and, if it has a heatmap, the picture.

    The same image, answer, model and operating point give the same UIDs; other content gives another SOP Instance UID.
    """
    documents = [structured_report(answer, source)]
    if answer.explanation is not None and answer.explanation.heatmap_png is not None:
        documents.append(heatmap_picture(answer, source))
    return documents


def encode_document(document: Dataset) -> bytes:
    """Return the bytes of a file as PS3.10 defines it."""
    buffer = io.BytesIO()
    document.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


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
        series_number=SR_SERIES,
        is_complete=True,
        coding_schemes=[
            CodingSchemeIdentificationItem(
                SCHEME, name="Codes of cxr-platform", responsible_organization=MANUFACTURER, version="1"
            )
        ],
        **_common(answer, source, "report"),
    )
    _copy(source, report, COPIED)
    return report


def heatmap_picture(answer: ScreenAnswer, source: DicomSource) -> Dataset:
    """Return a Secondary Capture of the image with the heatmap over it; the answer must have one."""
    from highdicom.sc import SCImage

    if answer.explanation is None:
        raise ValueError("an answer with an explanation")
    target = answer.explanation.target
    lines = (NOTICE.upper(), f"Heatmap for {target}, not a segmentation. {_model_name(answer)}")
    picture = SCImage(
        pixel_array=_pixels(answer, lines),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # replaced by that of the image below
        study_instance_uid=source.study_instance_uid,
        series_number=PICTURE_SERIES,
        **_common(answer, source, "heatmap"),
    )
    picture.ConversionType = "WSD"
    picture.BodyPartExamined, picture.PatientOrientation = "CHEST", None
    _copy(source, picture, (*COPIED, *COPIED_TO_PICTURES))
    picture.ImageComments = NOTICE
    picture.DerivationDescription = f"Heatmap for {target} over the resized image. {NOTICE}"
    if source.lossy:
        picture.LossyImageCompression = "01"
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = source.sop_class_uid, source.sop_instance_uid
    reference.PurposeOfReferenceCodeSequence = [_code_item(PROCESSED_FROM)]
    picture.SourceImageSequence = [reference]
    return picture


def _common(answer: ScreenAnswer, source: DicomSource, kind: str) -> dict[str, Any]:
    """Return what both documents, of the `kind` report or heatmap, state about themselves and the model."""
    return {
        "series_instance_uid": _uid(answer, source.sop_instance_uid, kind, "series"),
        "sop_instance_uid": _uid(answer, source.sop_instance_uid, kind, _content(answer, source)),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": _model_name(answer),
        "software_versions": answer.model.version,
        "series_description": SERIES_DESCRIPTION,
        "content_qualification": "RESEARCH",
        "specific_character_set": "ISO_IR 192",
    }


def _uid(answer: ScreenAnswer, *parts: str) -> str:
    """Return a UID (PS3.5, B.2) that is the same for the same parts, model, operating point and release.

    The version alone does not identify a model, because all registries count v1, v2, …
    """
    model = f"{RELEASE} {answer.model.model_dump_json()}{answer.operating_point.model_dump_json()}"
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, ' '.join((MANUFACTURER, model, *parts))).int}"


def _content(answer: ScreenAnswer, source: DicomSource) -> str:
    """Return what the documents state besides date and pixels: an object of other content has another UID."""
    stated = answer.model_dump_json(exclude={"request_id", "timings_ms", "explanation"})
    missing = None if answer.explanation is None else answer.explanation.missing
    return f"{stated} {missing} {source.model_dump_json()}"


def _model_name(answer: ScreenAnswer) -> str:
    synthetic = ", trained on drawn images" if answer.model.synthetic else ""
    return f"Model {answer.model.version}, {answer.model.strategy}{synthetic}"


def _observer(answer: ScreenAnswer) -> "ObserverContext":
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObserverContext
    from pydicom.sr.codedict import codes

    return ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=_uid(answer),
            name=f"CXR screening {answer.model.version}",
            manufacturer_name=MANUFACTURER,
            model_name=_model_name(answer),
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
            uid=_uid(answer, source.sop_instance_uid, "tracking"), identifier="CXR screening"
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


def _copy(source: DicomSource, document: Dataset, keywords: Sequence[str]) -> None:
    for keyword in keywords:
        if keyword in source.attributes:
            setattr(document, keyword, source.attributes[keyword])


def _code_item(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def _pixels(answer: ScreenAnswer, lines: Sequence[str]) -> NDArray[np.uint8]:
    """Return the image (height, width, 3) with the heatmap over it, and the lines of text below."""
    assert answer.explanation is not None
    assert answer.explanation.heatmap_png is not None
    below, above = (
        Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA")
        for png in (answer.explanation.image_png, answer.explanation.heatmap_png)
    )
    canvas = Image.new("RGB", (below.width, below.height + STRIP))
    canvas.paste(Image.alpha_composite(below, above).convert("RGB"))
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        size = FONT_SIZE
        while draw.textlength(line, font=ImageFont.load_default(size)) > canvas.width - 2 * MARGIN:
            size -= 1
        place = (MARGIN, below.height + MARGIN + number * (STRIP - 2 * MARGIN) // len(lines))
        draw.text(place, line, fill="white", font=ImageFont.load_default(size))
    return np.asarray(canvas)
