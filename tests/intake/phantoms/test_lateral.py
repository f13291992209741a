import numpy as np

from cxr_platform.intake.phantoms.lateral import draw_lateral


def test_a_lateral_image_follows_from_its_seed():
    (one, patient), (again, _) = (draw_lateral(np.random.default_rng(4), 128) for _ in range(2))
    assert (one == again).all()
    assert one.shape[0] == 128
    assert patient.age >= 18


def test_a_lateral_image_has_one_dark_lung_field_before_the_spine():
    for seed in range(4):
        image, _ = draw_lateral(np.random.default_rng(seed), 128)
        row = image[45:60].mean(axis=0)
        inside = row[int(0.25 * len(row)) : int(0.75 * len(row))]
        assert inside.min() < inside.max() - 0.15
