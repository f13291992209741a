import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_platform.config import IntakeConfig
from cxr_platform.intake.duplicates import (
    MAX_SHIFT,
    SAME_IMAGE_AGREEMENT,
    SIDE,
    as_pairs,
    connected_groups,
    detail_agreement,
    fine_detail,
    near_pairs,
    pairs_of_equal,
    phash,
)
from cxr_platform.intake.images import read_image
from tests.intake.files import thorax
from tests.manifest.builders import image


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    return float(detail_agreement(fine_detail(a), fine_detail(b)))


def test_agreement_is_the_largest_correlation_over_small_shifts() -> None:
    details = np.stack([fine_detail(image(number)) for number in range(4)])
    shifts = np.arange(-MAX_SHIFT, MAX_SHIFT + 1)
    for one, other, agreed in zip(details, details[::-1], detail_agreement(details, details[::-1]), strict=True):
        correlation = np.fft.irfft2(one * np.conj(other), s=(SIDE, SIDE))
        assert agreed == pytest.approx(correlation[np.ix_(shifts, shifts)].max(), abs=1e-5)


@pytest.mark.parametrize("distance", [0, 1, 4, 9])
def test_near_pairs_equal_those_of_a_comparison_bit_by_bit(distance: int) -> None:
    rng = np.random.default_rng(7)
    base = rng.integers(0, 2**64, 40, np.uint64, endpoint=False)
    flipped = base ^ (np.uint64(1) << rng.integers(0, 64, 40).astype(np.uint64))
    twice = flipped ^ (np.uint64(0b10111) << rng.integers(0, 50, 40).astype(np.uint64))
    hashes = np.concatenate([base, flipped, twice, base[:5]])
    every = [(i, j) for i in range(len(hashes)) for j in range(i + 1, len(hashes))]
    near = [(i, j) for i, j in every if bin(int(hashes[i] ^ hashes[j])).count("1") <= distance]
    assert near
    assert near_pairs(hashes, distance).tolist() == [list(pair) for pair in near]


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_images_have_no_pair(count: int) -> None:
    assert near_pairs(np.zeros(count, np.uint64), 4).shape == (0, 2)


def test_copies_of_an_image_agree_in_their_fine_detail() -> None:
    original = image(1)
    compressed = io.BytesIO()
    Image.fromarray(original).save(compressed, "JPEG", quality=60)
    assert agreement(original, np.asarray(Image.open(compressed))) > SAME_IMAGE_AGREEMENT
    assert agreement(original, (original * 0.7 + 40).astype(np.uint8)) > SAME_IMAGE_AGREEMENT
    assert agreement(original, np.roll(original, (4, -6), (0, 1))) > SAME_IMAGE_AGREEMENT
    smaller = Image.fromarray(original).resize((150, 150)).resize((200, 200))
    assert agreement(original, np.asarray(smaller)) > SAME_IMAGE_AGREEMENT


def test_images_of_the_same_anatomy_do_not_agree_in_their_fine_detail() -> None:
    others = [agreement(image(1), image(number)) for number in range(2, 8)]
    assert max(others) < SAME_IMAGE_AGREEMENT - 0.15


def test_an_image_without_detail_agrees_with_no_image() -> None:
    blank = np.full((200, 200), 90, np.uint8)
    assert agreement(blank, blank) < SAME_IMAGE_AGREEMENT
    assert agreement(np.zeros_like(blank), image(1)) < SAME_IMAGE_AGREEMENT


def test_connected_groups_join_all_images_that_pairs_connect() -> None:
    groups = connected_groups(6, as_pairs([(0, 4), (4, 2), (1, 5)]))
    assert len(set(groups.tolist())) == 3
    assert groups[0] == groups[2] == groups[4]
    assert groups[1] == groups[5] != groups[3]


def test_images_without_a_patient_are_not_paired() -> None:
    assert pairs_of_equal(["a", None, "a", None, "b", "a"]).tolist() == [[0, 2], [0, 5]]
    assert pairs_of_equal([None, None]).shape == (0, 2)


@pytest.mark.real
@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("16660_4_1.jpg", "covid-19-rapidly-progressive-acute-respiratory-distress-syndrome-ards-day-2.jpg", True),
        ("AR-1.jpg", "AR-2.jpg", True),
        (
            "E63574A7-4188-4C8D-8D17-9D67A18A1AFA.jpeg",
            "F4341CE7-73C9-45C6-99C8-8567A5484B63.jpeg",
            True,
        ),
        ("AR-1.jpg", "extubation-1.jpg", False),  # within 4 bits of each other, and of different people
    ],
)
def test_fine_detail_separates_real_images_that_the_hash_does_not(
    real_data: Path, first: str, second: str, same: bool
) -> None:
    folder = real_data / "sources" / "covid-chestxray-dataset" / "images"
    a, b = (read_image((folder / name).read_bytes(), IntakeConfig()).pixels for name in (first, second))
    assert (agreement(a, b) >= SAME_IMAGE_AGREEMENT) is same


def _distance(a: int, b: int) -> int:
    return (a ^ b).bit_count()


def test_phash_is_an_unsigned_integer_of_64_bits() -> None:
    value = phash(thorax())
    assert type(value) is int
    assert 0 <= value < 2**64
    assert np.uint64(value) == value


def test_phash_equals_the_hexadecimal_that_imagehash_prints() -> None:
    import imagehash
    from PIL import Image

    assert f"{phash(thorax()):016x}" == str(imagehash.phash(Image.fromarray(thorax())))


def test_phash_of_a_darker_copy_is_near_and_of_a_rotated_image_far() -> None:
    image = thorax()
    image[20:60, 120:160] = 255
    assert _distance(phash(image), phash((image * 0.7).astype(np.uint8))) <= 4
    assert _distance(phash(image), phash(np.ascontiguousarray(image.T[::-1]))) > 10
