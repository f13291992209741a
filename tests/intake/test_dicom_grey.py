import io

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian

from cxr_platform.config import DecodingConfig
from cxr_platform.intake.dicom_grey import to_grey
from tests.intake.files import dataset, dicom

CONFIG = DecodingConfig(percentile_low=0, percentile_high=100)
STORED = np.array([[0, 1000, 2000, 3000, 4000]], np.uint16)


def _grey(stored: np.ndarray = STORED, **attributes: object) -> np.ndarray:
    return to_grey(stored.astype(np.float32), dataset(stored, **{"BitsStored": 12, **attributes}), CONFIG)[0]


def _lut(descriptor: list[int], table: list[int]) -> Sequence:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", descriptor)
    item.add_new("LUTData", "US", table)
    return Sequence([item])


def test_without_a_window_twelve_bits_get_the_percentiles() -> None:
    np.testing.assert_allclose(_grey(), [0, 63.75, 127.5, 191.25, 255])


def test_a_linear_window_is_that_of_the_standard() -> None:
    """PS3.3 C.11.2.1.2.1: ((x − (c − 0.5)) / (w − 1) + 0.5), clipped."""
    expected = np.clip((STORED[0] - 1999.5) / 1999 + 0.5, 0, 1) * 255
    np.testing.assert_allclose(_grey(WindowCenter=2000, WindowWidth=2000), expected, atol=1e-3)


def test_a_sigmoid_window_is_that_of_the_standard() -> None:
    expected = 255 / (1 + np.exp(-4 * (STORED[0] - 2000.0) / 2000))
    grey = _grey(WindowCenter=2000, WindowWidth=2000, VOILUTFunction="SIGMOID")
    np.testing.assert_allclose(grey, expected, atol=1e-3)


def test_of_several_windows_the_first_counts() -> None:
    several = _grey(WindowCenter=[2000, 100], WindowWidth=[2000, 50])
    np.testing.assert_array_equal(several, _grey(WindowCenter=2000, WindowWidth=2000))


@pytest.mark.parametrize(
    "broken", [{"WindowWidth": 0, "WindowCenter": 5}, {"WindowWidth": 300}, {"WindowWidth": -4, "WindowCenter": 5}]
)
def test_a_broken_window_counts_as_none(broken: dict[str, int]) -> None:
    np.testing.assert_array_equal(_grey(**broken), _grey())


def test_the_window_is_in_units_after_rescaling() -> None:
    rescaled = _grey(RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=3000, WindowWidth=4001)
    np.testing.assert_allclose(rescaled, np.clip((STORED[0] * 2.0 - 1000 - 2999.5) / 4000 + 0.5, 0, 1) * 255, atol=1e-3)


def test_a_negative_slope_inverts() -> None:
    np.testing.assert_allclose(_grey(RescaleSlope=-1, RescaleIntercept=4095), _grey()[::-1])
    window = {"WindowCenter": 2096, "WindowWidth": 3001, "RescaleSlope": -1, "RescaleIntercept": 4095}
    assert (np.diff(_grey(**window)) < 0).any()


def test_monochrome1_is_the_inverse_of_monochrome2() -> None:
    np.testing.assert_allclose(_grey(PhotometricInterpretation="MONOCHROME1"), 255 - _grey())
    window = {"WindowCenter": 2000, "WindowWidth": 3000}
    np.testing.assert_allclose(_grey(PhotometricInterpretation="MONOCHROME1", **window), 255 - _grey(**window))


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_voi_lut_goes_before_the_window_whatever_the_bits_of_its_entries(bits: int) -> None:
    table = (np.sqrt(np.arange(4096) / 4095) * (2**bits - 1)).astype(int).tolist()
    grey = _grey(VOILUTSequence=_lut([4096, 0, bits], table), WindowCenter=9, WindowWidth=3)
    np.testing.assert_allclose(grey, np.sqrt(STORED[0] / 4095) * 255, atol=1.5)


def test_values_outside_a_voi_lut_take_its_ends() -> None:
    np.testing.assert_array_equal(_grey(VOILUTSequence=_lut([3, 1999, 16], [10, 20, 30])), [0, 0, 127.5, 255, 255])


def test_a_voi_lut_shorter_than_it_says_counts_as_none() -> None:
    np.testing.assert_array_equal(_grey(VOILUTSequence=_lut([4096, 0, 16], [1, 2, 3])), _grey())


def test_a_modality_lut_is_looked_up() -> None:
    falling = list(range(4095, -1, -1))
    np.testing.assert_allclose(_grey(ModalityLUTSequence=_lut([4096, 0, 16], falling)), _grey()[::-1])


def test_eight_bits_without_a_window_are_taken_as_they_are() -> None:
    stored = np.array([[10, 100, 200]], np.uint8)
    np.testing.assert_array_equal(_grey(stored, BitsStored=8), [10, 100, 200])
    np.testing.assert_array_equal(_grey(stored.view(np.int8), BitsStored=8), [138, 228, 72])


def test_colour_becomes_grey_by_luma_at_its_own_depth() -> None:
    red = np.zeros((1, 1, 3), np.uint16)
    red[..., 0] = 65535
    assert _grey(red, BitsStored=16)[0] == pytest.approx(0.299 * 255, abs=1e-3)


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
    told = {"PhotometricInterpretation": photometric, "PixelPaddingValue": 0}
    image = _grey(padded[:, 1:], PhotometricInterpretation=photometric)
    np.testing.assert_allclose(_grey(padded, **told), [0, *image])


def test_padding_of_implicit_and_signed_data_is_read_as_such() -> None:
    image = dataset(np.array([[-2000, 0, 1000, 2000]], np.int16), BitsStored=16)
    image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    image.add_new("PixelPaddingValue", "SS", -2000)
    read = dcmread(io.BytesIO(dicom(image)))
    np.testing.assert_allclose(to_grey(read.pixel_array.astype(np.float32), read, CONFIG), [[0, 0, 127.5, 255]])


def test_padding_may_be_a_range_and_is_never_all_of_an_image() -> None:
    told = {"PixelPaddingValue": 4000, "PixelPaddingRangeLimit": 3000}
    np.testing.assert_allclose(_grey(**told), [0, 127.5, 255, 0, 0])
    np.testing.assert_array_equal(_grey(PixelPaddingValue=0, PixelPaddingRangeLimit=4000), _grey())
