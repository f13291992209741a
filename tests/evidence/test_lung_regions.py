"""The lungs of a study's images: masks where they are found, the outline elsewhere, in the order of the images."""

from dataclasses import replace

import numpy as np

from cxr_platform.evidence.lung_regions import lung_regions, outlines, study_lungs
from cxr_platform.intake.letterbox import letterbox
from cxr_platform.intake.lung_field import lung_fields
from cxr_platform.intake.phantoms.image import ImageKey, draw_image
from cxr_platform.training.lungs import letterboxed_mask
from tests.evidence.builders import made_open_study, planted_facts, planted_study


def test_lungs_that_are_not_found_are_replaced_by_the_outline() -> None:
    drawing = draw_image(ImageKey(90_001, "Normal", 0, 0), 160)
    chest = letterbox(np.asarray(255 * drawing.picture, np.float32), 96).pixels
    height, width = drawing.picture.shape
    images, sizes = np.stack([chest, np.zeros_like(chest)]), (np.array([width, 50]), np.array([height, 100]))
    regions = lung_regions(images, *sizes)
    assert regions.found.tolist() == [True, False]
    drawn = letterboxed_mask(drawing.chest.whole_lungs, 96)
    assert 2 * (regions.masks[0] & drawn).sum() / (regions.masks[0].sum() + drawn.sum()) > 0.85
    assert (regions.masks[1] == lung_fields(*(side[1:] for side in sizes), 96)[0]).all()


def test_outlines_have_the_shape_of_each_image_in_the_order_of_the_study() -> None:
    known = planted_study("lungs", None)
    facts = planted_facts(known.data, 0)
    heights = (facts["width"].to_numpy() * np.linspace(0.6, 1.4, 120)).astype("int32")
    facts = facts.set_column(facts.column_names.index("height"), "height", [heights])
    shuffled = facts.take(np.random.default_rng(0).permutation(120))
    opened = made_open_study(known.data, shuffled, known.profile, None)
    fields = outlines(opened)
    assert (fields == lung_fields(facts["width"].to_numpy(), heights, 64)).all()
    assert (fields[0] != fields[-1]).any()
    black = made_open_study(replace(known.data, images=np.zeros_like(known.data.images)), shuffled, known.profile, None)
    regions = study_lungs(black)
    assert not regions.found.any()
    assert (regions.masks == fields).all()
