import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from pydicom.uid import (
    ImplicitVRLittleEndian,
)

from cxr_platform.config import DecodingConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake import dicom_grey
from cxr_platform.intake.dicom import decode_dicom
from cxr_platform.intake.dicom_grey import MAX_WINDOWS, to_grey
from cxr_platform.intake.phantoms.image import ImageKey, draw_image
from tests.intake.files import dataset, dicom, jpeg_dataset, ramp

CONFIG = DecodingConfig(percentile_low=0, percentile_high=100)
STORED = np.array([[0, 1000, 2000, 3000, 4000]], np.uint16)


def _grey(stored: np.ndarray = STORED, **attributes: object) -> np.ndarray:
    return to_grey(stored.astype(np.float32), dataset(stored, **{"BitsStored": 12, **attributes}), CONFIG)[0]


def _lut(descriptor: list[int], table: list[int]) -> Sequence:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", descriptor)
    item.add_new("LUTData", "US", table)
    return Sequence([item])


def test_twelve_bits_without_a_window_get_the_percentile_window() -> None:
    np.testing.assert_allclose(_grey(), [0, 63.75, 127.5, 191.25, 255])


def test_a_linear_window_is_that_of_the_standard() -> None:
    """PS3.3 C.11.2.1.2.1: ((x − (c − 0.5)) / (w − 1) + 0.5), clipped."""
    expected = np.clip((STORED[0] - 1999.5) / 2999 + 0.5, 0, 1) * 255
    np.testing.assert_allclose(_grey(WindowCenter=2000, WindowWidth=3000), expected, atol=1e-3)


def test_a_sigmoid_window_is_that_of_the_standard() -> None:
    expected = 255 / (1 + np.exp(-4 * (STORED[0] - 2000.0) / 2000))
    grey = _grey(WindowCenter=2000, WindowWidth=2000, VOILUTFunction="SIGMOID")
    np.testing.assert_allclose(grey, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("centers", "widths"),
    [([2000, 1500], [3000, 4000]), ([100, 2000], [50, 3000]), ([5, None, 40000, 2000], [0, 9, 1000, 3000])],
)
def test_the_first_of_several_windows_that_fits_is_used(centers: list[float], widths: list[float]) -> None:
    several = _grey(WindowCenter=centers, WindowWidth=widths)
    np.testing.assert_array_equal(several, _grey(WindowCenter=2000, WindowWidth=3000))
    assert not np.array_equal(several, _grey())


@pytest.mark.parametrize(
    "broken", [{"WindowWidth": 0, "WindowCenter": 5}, {"WindowWidth": 300}, {"WindowWidth": -4, "WindowCenter": 5}]
)
def test_an_invalid_window_is_ignored(broken: dict[str, int]) -> None:
    np.testing.assert_array_equal(_grey(**broken), _grey())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "senseless",
    [
        {"RescaleSlope": None, "RescaleIntercept": None},
        {"RescaleSlope": 1, "RescaleIntercept": None},
        {"RescaleSlope": 0, "RescaleIntercept": 7},
        {"RescaleSlope": "1e999", "RescaleIntercept": 0},
        {"ModalityLUTSequence": Sequence([Dataset()])},
        {"VOILUTSequence": Sequence([])},
        {"WindowCenter": None, "WindowWidth": None},
    ],
)
def test_an_empty_or_senseless_transform_counts_as_absent(senseless: dict[str, object]) -> None:
    np.testing.assert_array_equal(_grey(**senseless), _grey())


def test_a_rescale_slope_that_is_no_number_counts_as_absent() -> None:
    image = dicom(dataset(STORED, BitsStored=12, RescaleSlope="1.00", RescaleIntercept=0)).replace(b"1.00", b"N/A ")
    np.testing.assert_array_equal(decode_dicom(image, CONFIG).values[0], _grey())


@pytest.mark.parametrize(("center", "width"), [(40000, 1000), (-600, 1500), (60000, 120000), (128, 256)])
def test_a_window_beside_the_values_gives_way_to_the_percentiles(center: int, width: int) -> None:
    values = np.linspace(900, 4000, 100).reshape(1, -1).astype(np.uint16)
    np.testing.assert_array_equal(_grey(values, WindowCenter=center, WindowWidth=width), _grey(values))


PHANTOM = np.rint(draw_image(ImageKey(5, "Normal", 2, 0), 240).picture * 4080).astype(np.uint16)


@pytest.mark.parametrize(
    ("center", "width"),
    [(16000, 32000), (2048, 20000), (-8000, 20000), (600, 1200), (400, 800), (4000, 4000), (4500, 4500), (-400, 2500)],
)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_window_of_which_the_picture_is_faint_flat_dark_or_bright_gives_way(
    center: int, width: int, photometric: str
) -> None:
    attributes: dict[str, Any] = {"BitsStored": 12, "PhotometricInterpretation": photometric}
    with_window = decode_dicom(dicom(PHANTOM, **attributes, WindowCenter=center, WindowWidth=width), DecodingConfig())
    np.testing.assert_array_equal(
        with_window.values, decode_dicom(dicom(PHANTOM, **attributes), DecodingConfig()).values
    )


@pytest.mark.parametrize(("center", "width"), [(2048, 4096), (2000, 2000), (1500, 3000), (2500, 3000)])
@pytest.mark.parametrize("border", [0, 70])
def test_a_window_within_the_values_is_used_also_if_there_are_wide_borders(
    center: int, width: int, border: int
) -> None:
    values = np.pad(PHANTOM, border)
    grey = decode_dicom(dicom(values, BitsStored=12, WindowCenter=center, WindowWidth=width), DecodingConfig()).values
    expected = np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * 255
    np.testing.assert_allclose(grey, expected, atol=1e-3)


@pytest.mark.parametrize(
    "vanishing",
    [
        {"RescaleSlope": "0.001", "RescaleIntercept": "9e8"},
        {"RescaleSlope": "1e-30", "RescaleIntercept": "5"},
        {"RescaleSlope": "1e-9", "RescaleIntercept": "-9e8"},
        {"RescaleSlope": "1e-30", "RescaleIntercept": "0"},
        {"RescaleSlope": "1", "RescaleIntercept": "999999999"},
    ],
)
def test_a_rescale_of_which_the_values_differ_little_leaves_the_picture(vanishing: dict[str, str]) -> None:
    np.testing.assert_allclose(_grey(**vanishing), _grey(), atol=0.01)


def test_a_window_of_twelve_bits_on_eight_bits_gives_way_to_the_stored_range() -> None:
    stored = np.array([[10, 100, 200]], np.uint8)
    np.testing.assert_array_equal(_grey(stored, BitsStored=8, WindowCenter=2048, WindowWidth=4096), [10, 100, 200])


def test_the_window_is_in_units_after_rescaling() -> None:
    rescaled = _grey(RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=3000, WindowWidth=6001)
    np.testing.assert_allclose(rescaled, np.clip((STORED[0] * 2.0 - 1000 - 2999.5) / 6000 + 0.5, 0, 1) * 255, atol=1e-3)


def test_a_negative_slope_inverts() -> None:
    np.testing.assert_allclose(_grey(RescaleSlope=-1, RescaleIntercept=4095), _grey()[::-1])
    window = {"WindowCenter": 2096, "WindowWidth": 3001, "RescaleSlope": -1, "RescaleIntercept": 4095}
    assert (np.diff(_grey(**window)) < 0).any()


def test_monochrome1_is_the_inverse_of_monochrome2() -> None:
    np.testing.assert_allclose(_grey(PhotometricInterpretation="MONOCHROME1"), 255 - _grey())
    window = {"WindowCenter": 2000, "WindowWidth": 3000}
    np.testing.assert_allclose(_grey(PhotometricInterpretation="MONOCHROME1", **window), 255 - _grey(**window))


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_voi_lut_of_any_bit_depth_takes_precedence_over_a_window(bits: int) -> None:
    table = (np.sqrt(np.arange(4096) / 4095) * (2**bits - 1)).astype(int).tolist()
    grey = _grey(VOILUTSequence=_lut([4096, 0, bits], table), WindowCenter=9, WindowWidth=3)
    np.testing.assert_allclose(grey, np.sqrt(STORED[0] / 4095) * 255, atol=1.5)


def test_values_outside_a_voi_lut_get_its_first_or_last_entry() -> None:
    stored = np.arange(0, 4001, 500, np.uint16)[None]
    grey = _grey(stored, VOILUTSequence=_lut([3001, 500, 16], list(range(10, 3011))))
    np.testing.assert_allclose(grey, [0, 0, 42.5, 85, 127.5, 170, 212.5, 255, 255])


def test_a_voi_lut_shorter_than_its_descriptor_is_ignored() -> None:
    np.testing.assert_array_equal(_grey(VOILUTSequence=_lut([4096, 0, 16], [1, 2, 3])), _grey())


def test_a_modality_lut_is_applied() -> None:
    falling = list(range(4095, -1, -1))
    np.testing.assert_allclose(_grey(ModalityLUTSequence=_lut([4096, 0, 16], falling)), _grey()[::-1])


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_modality_lut_has_any_depth(bits: int) -> None:
    table = np.linspace(0, 2**bits - 1, 4096).astype(int).tolist()
    grey = _grey(ModalityLUTSequence=_lut([4096, 0, bits], table))
    np.testing.assert_allclose(grey, _grey(), atol=1.5)


def test_a_modality_lut_of_packed_bytes_is_read() -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [256, 0, 8])
    item.add_new("LUTData", "OW", bytes(range(255, -1, -1)))
    stored = np.array([[0, 85, 170, 255]], np.uint8)
    np.testing.assert_allclose(_grey(stored, BitsStored=8, ModalityLUTSequence=Sequence([item])), [255, 170, 85, 0])


def test_eight_bits_without_a_window_are_not_rescaled() -> None:
    stored = np.array([[10, 100, 200]], np.uint8)
    np.testing.assert_array_equal(_grey(stored, BitsStored=8), [10, 100, 200])
    np.testing.assert_array_equal(_grey(stored.view(np.int8), BitsStored=8), [138, 228, 72])


def test_colour_becomes_grey_by_luma_at_its_own_depth() -> None:
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 255
    assert _grey(red, BitsStored=8)[0] == pytest.approx(0.299 * 255, abs=1e-3)


@pytest.mark.parametrize("bits", [12, 16])
def test_colour_of_more_than_8_bits_gets_the_percentile_window_as_grey_does(bits: int) -> None:
    grey = decode_dicom(dicom(np.dstack([PHANTOM] * 3), BitsStored=bits), DecodingConfig()).values
    expected = decode_dicom(dicom(PHANTOM, BitsStored=bits), DecodingConfig()).values
    np.testing.assert_allclose(grey, expected, atol=0.1)


def test_the_colours_of_16_bits_are_as_strong_as_those_of_the_12_bits_that_are_used() -> None:
    picture = np.zeros((64, 64, 3), np.uint16)
    picture[:32, :, 0], picture[32:, :, 2] = 4080, 4080
    for bits in (12, 16):
        colours = decode_dicom(dicom(picture, BitsStored=bits), DecodingConfig()).colours
        assert colours is not None
        np.testing.assert_allclose(colours[0, 0], [1, 0, 0], atol=0.01)


def test_palette_indices_become_the_luma_of_their_colours() -> None:
    colours = {"Red": [0, 65535], "Green": [0, 65535], "Blue": [0, 0]}
    image = dataset(np.array([[0, 1]], np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for colour, table in colours.items():
        image.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [2, 0, 16])
        image.add_new(f"{colour}PaletteColorLookupTableData", "OW", np.array(table, "<u2").tobytes())
    np.testing.assert_allclose(to_grey(np.array([[0.0, 1.0]]), image, CONFIG)[0], [0, 0.886 * 255], atol=0.01)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_count_for_the_percentiles(photometric: str) -> None:
    padded = np.array([[0, 1000, 2000, 3000]], np.uint16)
    attributes = {"PhotometricInterpretation": photometric, "PixelPaddingValue": 0}
    image = _grey(padded[:, 1:], PhotometricInterpretation=photometric)
    np.testing.assert_allclose(_grey(padded, **attributes), [0, *image])


def test_padding_of_implicit_signed_data_is_recognised() -> None:
    image = dataset(np.array([[-2000, 0, 1000, 2000]], np.int16), BitsStored=16)
    image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    image.add_new("PixelPaddingValue", "SS", -2000)
    read = dcmread(io.BytesIO(dicom(image)))
    np.testing.assert_allclose(to_grey(read.pixel_array.astype(np.float32), read, CONFIG), [[0, 0, 127.5, 255]])


def test_padding_may_be_a_range_but_never_the_whole_image() -> None:
    attributes = {"PixelPaddingValue": 4000, "PixelPaddingRangeLimit": 3000}
    np.testing.assert_allclose(_grey(**attributes), [0, 127.5, 255, 0, 0])
    np.testing.assert_array_equal(_grey(PixelPaddingValue=0, PixelPaddingRangeLimit=4000), _grey())


@pytest.mark.parametrize("label", ["RGB", "YBR_FULL", "YBR_FULL_422"])
def test_a_jfif_stream_is_ycbcr_whatever_its_label(label: str) -> None:
    image = dicom(jpeg_dataset(np.dstack([ramp()] * 3), PhotometricInterpretation=label))
    np.testing.assert_allclose(decode_dicom(image, CONFIG).values, ramp(), atol=3)


def test_further_windows_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes its time on the whole image."""
    windowed, real = list[NDArray[Any]](), dicom_grey.apply_windowing

    def apply_windowing(values: NDArray[Any], numbers: Dataset) -> NDArray[Any]:
        windowed.append(values)
        return real(values, numbers)

    monkeypatch.setattr(dicom_grey, "apply_windowing", apply_windowing)
    pairs = {"WindowCenter": ["1"] * 100 * MAX_WINDOWS, "WindowWidth": ["1"] * 100 * MAX_WINDOWS}
    decode_dicom(dicom(PHANTOM, BitsStored=12, **pairs), DecodingConfig())
    assert sum(values.shape == PHANTOM.shape for values in windowed) == MAX_WINDOWS


def test_the_last_window_that_is_tried_may_be_the_one_that_fits() -> None:
    beside = ["1"] * (MAX_WINDOWS - 1)
    values = PHANTOM.astype(np.uint16) * 16
    several = dicom(values, BitsStored=12, WindowCenter=[*beside, "2048"], WindowWidth=[*beside, "4096"])
    single = dicom(values, BitsStored=12, WindowCenter="2048", WindowWidth="4096")
    np.testing.assert_array_equal(
        decode_dicom(several, DecodingConfig()).values, decode_dicom(single, DecodingConfig()).values
    )


def test_a_palette_in_segments_is_refused() -> None:
    """Each of 16 segments repeats all before it, so that they are 65,536 entries, and twice as many with one more."""
    image = dataset(ramp(), PhotometricInterpretation="PALETTE COLOR")
    segments = [0, 1, 7, *(word for number in range(1, 17) for word in (2, number, 0, 0))]
    for colour in ("Red", "Green", "Blue"):
        setattr(image, f"{colour}PaletteColorLookupTableDescriptor", [0, 0, 16])
        setattr(image, f"Segmented{colour}PaletteColorLookupTableData", np.array(segments, "<u2").tobytes())
    with pytest.raises(ImageRefused, match="in segments") as refused:
        decode_dicom(dicom(image), DecodingConfig())
    assert refused.value.reason == "undecodable"
