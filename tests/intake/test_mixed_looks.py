import numpy as np

from cxr_platform.intake.mixed_looks import LOOKS, donors_of_looks, mixed

SIZE = 64
ORIGINS = np.repeat(["a", "b", "c", "d", "e"], [2, 50, 5, 5, 5])


def test_the_donors_of_an_image_come_from_different_origins() -> None:
    donors = donors_of_looks(ORIGINS, 1)
    assert donors.shape == (LOOKS, len(ORIGINS))
    assert all(len(set(ORIGINS[of_image])) == LOOKS for of_image in donors.T)
    assert donors_of_looks(ORIGINS[:52], 1).shape[0] == 2  # of so many origins


def test_every_origin_gives_as_many_first_looks_whatever_its_number_of_images() -> None:
    first = donors_of_looks(np.repeat(ORIGINS, 30), 1)[0]
    shares = np.unique(np.repeat(ORIGINS, 30)[first], return_counts=True)[1] / len(first)
    assert (abs(shares - 0.2) < 0.04).all()


def test_donors_repeat_with_the_seed_and_differ_with_another() -> None:
    first, again, other = (donors_of_looks(ORIGINS, seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).mean() > 0.5


def test_mixed_images_repeat_with_the_seed_and_differ_with_another() -> None:
    images = np.random.default_rng(5).integers(0, 255, (6, SIZE, SIZE)).astype(np.uint8)
    first, again, other = (np.stack(list(mixed(images, np.arange(6)[::-1], seed))) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).mean() > 0.5


def test_a_mixed_image_takes_over_the_sharpness_of_its_donor() -> None:
    sharp = np.random.default_rng(8).integers(0, 255, (SIZE, SIZE)).astype(np.uint8)
    smooth = np.broadcast_to(np.linspace(0, 250, SIZE, dtype=np.uint8), (SIZE, SIZE))
    images = np.stack([sharp] * 4 + [smooth] * 4)

    def edges(donors: list[int]) -> float:
        shown = np.stack(list(mixed(images, np.array(donors), 1))).astype(float)
        return float(np.abs(np.diff(shown[:4], axis=2)).mean())

    assert edges([4] * 8) < 0.9 * edges([0] * 8)
