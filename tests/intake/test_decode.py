import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cxr_platform.config import DecodingConfig
from cxr_platform.errors import ImageRefused
from cxr_platform.intake.decode import decode, sniff
from cxr_platform.intake.reasons import REASONS
from tests.intake.files import dicom, jpeg, jpeg_dataset, png, ramp, saved

CONFIG = DecodingConfig()
DICOM = dicom(ramp())
SEEDS = (
    png(ramp()),
    png(Image.fromarray(ramp()).convert("P")),
    jpeg(ramp()),
    DICOM,
    DICOM[132:],
    dicom(jpeg_dataset(ramp(), PhotometricInterpretation="MONOCHROME1")),
)


def _reason(data: bytes, config: DecodingConfig = CONFIG) -> str:
    with pytest.raises(ImageRefused) as refused:
        decode(data, config)
    return refused.value.reason


@pytest.mark.parametrize(
    ("data", "container"),
    [(png(ramp()), "PNG"), (jpeg(ramp()), "JPEG"), (DICOM, "DICOM"), (DICOM[132:], "DICOM")],
)
def test_the_container_is_known_by_the_content(data: bytes, container: str) -> None:
    assert sniff(data) == container
    assert decode(data, CONFIG).container == container


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
        b"\x00\x00\x00\x01Bud1\x00\x00 \x00\x00\x00",
        b"<html><body>404</body></html>",
        b"\x02\x00",
        *(saved(ramp(), container) for container in ("GIF", "BMP", "TIFF", "WEBP", "JPEG2000")),
    ],
    ids=lambda data: repr(data[:8]),
)
def test_everything_else_is_not_an_image(data: bytes) -> None:
    assert _reason(data) == "not-an-image"


def test_more_bytes_than_the_limit_are_too_large_whatever_they_are() -> None:
    assert _reason(b"text" * 10, DecodingConfig(max_bytes=39)) == "too-large"
    assert _reason(png(ramp()), DecodingConfig(max_bytes=39)) == "too-large"


@pytest.mark.parametrize("data", [png(ramp()), jpeg(ramp()), DICOM])
def test_more_pixels_than_the_limit_are_too_large_in_every_container(data: bytes) -> None:
    assert _reason(data, DecodingConfig(max_pixels=60 * 80 - 1)) == "too-large"


@settings(max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.sampled_from(SEEDS),
    cut=st.floats(0.01, 1) | st.just(1.0),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
)
def test_a_broken_file_is_decoded_or_refused_with_a_reason_and_never_anything_else(
    seed: bytes, cut: float, changes: list[tuple[float, int]]
) -> None:
    data = bytearray(seed[: max(1, int(len(seed) * cut))])
    for place, value in changes:
        data[int(len(data) * place**3)] = value  # more of them in the headers
    try:
        outcome = str(decode(bytes(data), CONFIG).values.ndim)
    except ImageRefused as refused:
        outcome = refused.reason
    assert outcome in {"2", *REASONS}
