"""Write an answer as DICOM: a structured report (`dicom_report`), and the heatmap as a Secondary Capture.

Both carry the notice where a reader sees it: in the content of the report, in the pixels of the picture, and in the
description of each series (`dicom_document`).
"""

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset
from pydicom.sr.coding import Code

from cxr_platform.intake.dicom_source import COPIED, COPIED_TO_PICTURES, DicomSource
from cxr_platform.serving.dicom_document import copy_attributes, document_attributes, model_name
from cxr_platform.serving.dicom_report import structured_report
from cxr_platform.serving.schema import NOTICE, ScreenAnswer

PROCESSED_FROM = Code("121322", "DCM", "Source image for image processing operation")

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


def heatmap_picture(answer: ScreenAnswer, source: DicomSource) -> Dataset:
    """Return a Secondary Capture of the image with the heatmap over it; the answer must have one."""
    from highdicom.sc import SCImage

    if answer.explanation is None:
        raise ValueError("an answer with an explanation")
    target = answer.explanation.target
    lines = (NOTICE.upper(), f"Heatmap for {target}, not a segmentation. {model_name(answer)}")
    picture = SCImage(
        pixel_array=_pixels(answer, lines),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # replaced by that of the image below
        study_instance_uid=source.study_instance_uid,
        **document_attributes(answer, source, "heatmap"),
    )
    picture.ConversionType = "WSD"
    picture.BodyPartExamined, picture.PatientOrientation = "CHEST", None
    copy_attributes(source, picture, (*COPIED, *COPIED_TO_PICTURES))
    picture.ImageComments = NOTICE
    picture.DerivationDescription = f"Heatmap for {target} over the resized image. {NOTICE}"
    if source.lossy:
        picture.LossyImageCompression = "01"
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = source.sop_class_uid, source.sop_instance_uid
    reference.PurposeOfReferenceCodeSequence = [_code_item(PROCESSED_FROM)]
    picture.SourceImageSequence = [reference]
    return picture


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
