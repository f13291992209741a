import numpy as np
import pytest
from PIL import Image

from cxr_platform.intake.phantoms.annotation import annotate, burn_mark, collimate


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width), 0.5, np.float32)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("height", [128, 320])
def test_the_mark_is_written_legibly_at_the_upper_or_lower_edge(seed: int, height: int):
    canvas = Image.fromarray(255 * grey(height, height))
    burn_mark(canvas, np.random.default_rng(seed))
    changed = np.asarray(canvas) != 127.5
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert rows[-1] < 0.12 * height or rows[0] > 0.88 * height
    assert 0.2 * height < len(columns) < 0.6 * height
    assert (np.asarray(canvas) > 230).sum() > 60
    assert (np.asarray(canvas) < 40).sum() > 60


@pytest.mark.parametrize("seed", range(20))
def test_the_mark_is_never_cut_off(seed: int):
    canvas = Image.fromarray(255 * grey(320, 300))
    burn_mark(canvas, np.random.default_rng(seed))
    changed = np.asarray(canvas) != 127.5
    assert not changed[[0, -1]].any()
    assert not changed[:, [0, -1]].any()


def test_annotations_follow_from_the_seed_and_stay_in_range():
    images = [annotate(grey(200, 220), "AP", np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert (images[0] == images[1]).all()
    assert (images[0] != images[2]).any()
    assert min(f.min() for f in images) >= 0
    assert max(f.max() for f in images) <= 1


def test_collimation_blackens_edges_of_some_images_only():
    framed = [collimate(grey(100, 100), np.random.default_rng(seed)) for seed in range(40)]
    untouched = sum(bool((image == 0.5).all()) for image in framed)
    assert 10 < untouched < 30
    assert all((image[6:-6, 6:-6] == 0.5).all() for image in framed)
