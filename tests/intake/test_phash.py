import numpy as np

from cxr_platform.intake.phash import phash
from tests.intake.files import thorax


def _distance(a: int, b: int) -> int:
    return (a ^ b).bit_count()


def test_the_hash_is_an_unsigned_integer_of_64_bits_and_fits_numpy() -> None:
    value = phash(thorax())
    assert type(value) is int
    assert 0 <= value < 2**64
    assert np.uint64(value) == value


def test_the_hash_is_the_hexadecimal_that_imagehash_prints() -> None:
    import imagehash
    from PIL import Image

    assert f"{phash(thorax()):016x}" == str(imagehash.phash(Image.fromarray(thorax())))


def test_a_darker_copy_is_near_and_the_mirrored_transposed_image_is_far() -> None:
    image = thorax()
    image[20:60, 120:160] = 255
    assert _distance(phash(image), phash((image * 0.7).astype(np.uint8))) <= 4
    assert _distance(phash(image), phash(np.ascontiguousarray(image.T[::-1]))) > 10
