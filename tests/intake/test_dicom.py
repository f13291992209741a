import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.data
import pytest
from pydicom import Dataset

from cxr_platform.config import DecodingConfig, IntakeConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.candidate import REASONS
from cxr_platform.intake.dicom import decode_dicom
from cxr_platform.intake.images import read_image
from tests.intake.files import dataset, dicom, jpeg_dataset, ramp

CONFIG = DecodingConfig()
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def _reason(data: bytes) -> str:
    with pytest.raises(ImageRefused) as refused:
        decode_dicom(data, CONFIG)
    return refused.value.reason


def test_a_radiograph_has_depth_photometric_interpretation_view_and_patient() -> None:
    image = decode_dicom(dicom(ramp().astype(np.uint16) * 16, BitsStored=12), CONFIG)
    assert image.values.shape == (60, 80)
    assert (image.container, image.bit_depth, image.color_mode) == ("DICOM", 12, "MONOCHROME2")
    assert (image.view, image.patient) == ("PA", "P1")
    assert (image.sex, image.age) == (None, None)


def test_sex_and_age_come_from_the_header() -> None:
    image = read_image(dicom(ramp(), PatientSex="F", PatientAge="006M"), IntakeConfig())
    assert (image.sex, image.age) == ("F", 0.5)


@pytest.mark.parametrize("patient_id", ["", " ", "Anonymous", "ANONYMIZED", "anon", "Unknown", "NONE", "0", "0000"])
def test_a_placeholder_is_not_a_patient(patient_id: str) -> None:
    assert decode_dicom(dicom(ramp(), PatientID=patient_id), CONFIG).patient is None


@pytest.mark.parametrize("patient_id", ["ANON0042", "10", "P0"])
def test_a_pseudonym_is_a_patient(patient_id: str) -> None:
    assert decode_dicom(dicom(ramp(), PatientID=patient_id), CONFIG).patient == patient_id


def test_an_object_without_preamble_and_meta_information_is_read() -> None:
    image = dicom(ramp())
    expected = decode_dicom(image, CONFIG).values
    np.testing.assert_array_equal(decode_dicom(image[132:], CONFIG).values, expected)
    bare = image[image.index(b"\x08\x00\x16\x00") :]
    np.testing.assert_array_equal(decode_dicom(bare, CONFIG).values, expected)


@pytest.mark.parametrize("modality", ["CR", "DX", "DR", "RG", "OT", ""])
def test_modalities_of_radiographs_are_decoded(modality: str) -> None:
    decode_dicom(dicom(ramp(), Modality=modality), CONFIG)


@pytest.mark.parametrize("modality", ["CT", "MR", "US", "MG", "PT"])
def test_other_modalities_are_refused(modality: str) -> None:
    assert _reason(dicom(ramp(), Modality=modality)) == "modality"


@pytest.mark.parametrize(("position", "passes"), [("PA", True), ("HFS", False)])
def test_a_secondary_capture_is_a_radiograph_only_with_a_projection(position: str, passes: bool) -> None:
    image = dicom(ramp(), Modality="CT", SOPClassUID=SECONDARY_CAPTURE, ViewPosition="", PatientPosition=position)
    if passes:
        assert decode_dicom(image, CONFIG).view == "PA"
    else:
        assert _reason(image) == "modality"


@pytest.mark.parametrize("modality", ["", "OT"])
def test_a_ct_that_states_no_modality_is_known_by_its_class(modality: str) -> None:
    assert _reason(dicom(ramp(), Modality=modality, SOPClassUID="1.2.840.10008.5.1.4.1.1.2")) == "modality"


def _code(value: str, meaning: str) -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return [item]


@pytest.mark.parametrize(
    ("attributes", "view"),
    [
        ({"ViewPosition": "LL"}, "LL"),
        ({"ViewPosition": "LATERAL"}, "LATERAL"),
        ({"ViewPosition": "RLD", "ViewCodeSequence": _code("399348003", "antero-posterior")}, "RLD"),
        ({"ViewCodeSequence": _code("399173006", "left lateral")}, "LEFT LATERAL"),
        ({"ViewCodeSequence": _code("R-10236", "")}, "LEFT LATERAL"),
        ({"ViewCodeSequence": _code("1", "Right lateral of P. Doe")}, "LATERAL"),
        ({"ViewCodeSequence": _code("399059000", "postero-anterior oblique")}, "OBLIQUE"),
        ({"ViewCodeSequence": _code("R-10214", "postero-anterior")}, "PA"),
        ({"ViewPosition": "UNKNOWN", "ViewCodeSequence": _code("272479007", "")}, "PA"),
        ({"SeriesDescription": "Chest LATERAL"}, "LATERAL"),
        ({"ProtocolName": "Thorax seitlich"}, "SEITLICH"),
        ({"AcquisitionDeviceProcessingDescription": "CHEST,LAT"}, "LAT"),
        ({"SeriesDescription": "Chest", "ProtocolName": "Chest pa"}, "PA"),
        ({"SeriesDescription": "CHEST PA AND LATERAL"}, None),
        ({"StudyDescription": "CHEST LATERAL"}, None),
        ({"ViewPosition": "STANDING", "SeriesDescription": "bilateral"}, "STANDING"),
        ({}, None),
    ],
)
def test_the_view_comes_from_the_first_attribute_that_states_one(attributes: dict[str, Any], view: str | None) -> None:
    assert decode_dicom(dicom(ramp(), **{"ViewPosition": "", **attributes}), CONFIG).view == view


@pytest.mark.parametrize(
    ("attributes", "part"),
    [
        ({"BodyPartExamined": "HAND"}, "HAND"),
        ({"BodyPartExamined": "LSPINE"}, "SPINE"),
        ({"AnatomicRegionSequence": _code("69536005", "Head")}, "HEAD"),
        ({"BodyPartExamined": "CHEST", "AnatomicRegionSequence": _code("69536005", "Head")}, None),
        ({"BodyPartExamined": "RIBCAGE"}, None),
        ({}, None),
    ],
)
def test_another_part_of_the_body_is_named(attributes: dict[str, Any], part: str | None) -> None:
    assert decode_dicom(dicom(ramp(), **attributes), CONFIG).other_body_part == part


@pytest.mark.parametrize(
    ("attributes", "raw"),
    [
        ({"PresentationIntentType": "FOR PROCESSING"}, True),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1"}, True),
        ({"PresentationIntentType": "FOR PRESENTATION"}, False),
        ({}, False),
    ],
)
def test_raw_values_of_the_detector_are_known(attributes: dict[str, Any], raw: bool) -> None:
    assert decode_dicom(dicom(ramp(), **attributes), CONFIG).for_processing is raw


def test_the_colours_of_an_object_are_measured() -> None:
    colours = decode_dicom(dicom(np.dstack([ramp(), ramp()[:, ::-1], ramp()])), CONFIG).colours
    assert colours is not None
    np.testing.assert_allclose(colours[32, [0, -1]], [[0, 1, 0], [1, 0, 1]], atol=0.05)


def test_an_object_in_grey_has_no_colours_whatever_its_photometric_interpretation() -> None:
    rgb, ybr = np.dstack([ramp()] * 3), np.dstack([ramp(), np.full_like(ramp(), 128), np.full_like(ramp(), 128)])
    for image in (dicom(rgb), dicom(ybr, PhotometricInterpretation="YBR_FULL")):
        colours = decode_dicom(image, CONFIG).colours
        assert colours is not None
        assert np.ptp(colours, axis=2).max() < 0.01
    assert decode_dicom(dicom(ramp()), CONFIG).colours is None


def test_several_frames_are_refused() -> None:
    assert _reason(dicom(ramp(), NumberOfFrames=2)) == "multi-frame"


def test_an_object_without_an_image_is_refused() -> None:
    image = dataset(ramp())
    del image.PixelData
    assert _reason(dicom(image)) == "no-pixel-data"


def test_a_header_of_too_many_pixels_is_refused_before_any_is_decoded() -> None:
    assert _reason(dicom(ramp(), Rows=30_000, Columns=30_000)) == "too-large"


@pytest.mark.parametrize(
    "fault",
    [
        {"BitsStored": 20},
        {"BitsAllocated": 12},
        {"SamplesPerPixel": 3},
        {"PhotometricInterpretation": "HSV"},
        {"PixelRepresentation": 7},
        {"Rows": 0},
        {"Rows": None},
    ],
)
def test_an_inconsistent_header_is_undecodable(fault: dict[str, object]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = dicom(ramp(), **fault)
    assert _reason(image) == "undecodable"


@pytest.mark.parametrize("keyword", ["Rows", "SamplesPerPixel", "PhotometricInterpretation", "BitsStored", "HighBit"])
@pytest.mark.parametrize("empty", [False, True])
def test_the_refusal_names_an_attribute_that_the_header_lacks(keyword: str, empty: bool) -> None:
    image = dataset(ramp())
    delattr(image, keyword)
    if empty:
        setattr(image, keyword, None)
    with pytest.raises(ImageRefused) as refused:
        decode_dicom(dicom(image), CONFIG)
    assert (refused.value.reason, refused.value.detail) == ("undecodable", f"DICOM: the header lacks {keyword}")


@pytest.mark.parametrize("photometric", ["monochrome1", "Monochrome2"])
def test_a_photometric_interpretation_in_lower_case_is_understood(photometric: str) -> None:
    written = dicom(ramp(), PhotometricInterpretation=photometric.upper())
    image = decode_dicom(written.replace(photometric.upper().encode(), photometric.encode()), CONFIG)
    np.testing.assert_array_equal(image.values, decode_dicom(written, CONFIG).values)
    assert image.color_mode == photometric.upper()


def test_irregular_values_do_not_warn_or_change_the_warning_filters() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = dicom(ramp(), PatientID="P" * 200, StudyDate="20-20")
    before = warnings.filters[:]
    assert decode_dicom(image, CONFIG).patient == "P" * 200
    assert warnings.filters == before


def test_monochrome1_is_the_inverse_of_the_same_values_as_monochrome2() -> None:
    images = [dicom(jpeg_dataset(ramp(), PhotometricInterpretation=p)) for p in ("MONOCHROME1", "MONOCHROME2")]
    inverted, plain = (decode_dicom(image, CONFIG).values for image in images)
    np.testing.assert_allclose(inverted, 255 - plain)


def test_every_file_that_pydicom_ships_is_decoded_or_refused_with_a_reason() -> None:
    folder = Path(pydicom.data.__file__).parent / "test_files"
    outcomes: Counter[str] = Counter()
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        try:
            outcomes[f"decoded to {read_image(file.read_bytes(), IntakeConfig()).pixels.shape}"] += 1
        except ImageRefused as refused:
            outcomes[refused.reason] += 1
    assert outcomes.keys() <= {"decoded to (200, 200)", *REASONS}
    assert outcomes["decoded to (200, 200)"] >= 30
    assert outcomes["undecodable"] <= 5
    assert {"modality", "no-pixel-data", "multi-frame", "not-an-image"} <= outcomes.keys()


@pytest.mark.real
def test_real_dicom_images_decode_and_a_relabelled_one_is_the_inverse_of_its_twin(
    real_data: Path,
) -> None:
    folder = real_data / "originals/dicom"
    images = {file.name: read_image(file.read_bytes(), IntakeConfig()) for file in folder.glob("*.dcm")}
    assert len(images) == 8
    twin, fake = (images[name] for name in sorted(images) if name.startswith("txv"))
    assert (twin.color_mode, fake.color_mode) == ("MONOCHROME2", "MONOCHROME1")
    assert np.abs(255 - twin.pixels.astype(int) - fake.pixels).max() <= 1
    assert all(
        image.pixels[:10].mean() < image.pixels[90:110, 90:110].mean() for image in images.values() if image != fake
    )
