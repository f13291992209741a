import json
from pathlib import Path

import numpy as np
import pytest

from cxr_platform.errors import BundleError
from cxr_platform.labels import CLASSES
from cxr_platform.monitoring.reference import POINTS, QUANTITIES, build_reference, parse_reference
from tests.monitoring.builders import draw, make_reference


def test_a_written_reference_is_read_again(tmp_path: Path) -> None:
    reference = make_reference()
    reference.write(tmp_path / "reference.json")
    again = parse_reference((tmp_path / "reference.json").read_bytes(), "reference.json")
    features = draw(np.random.default_rng(2), 30)["features"]
    np.testing.assert_allclose(again.distance(features), reference.distance(features), rtol=1e-5)
    for name in QUANTITIES:
        np.testing.assert_array_equal(again.quantities[name].quantiles, reference.quantities[name].quantiles)
        assert again.quantities[name].n == 2000
    assert again.labels == reference.labels
    assert again.limit == pytest.approx(reference.limit)
    assert [path.name for path in tmp_path.iterdir()] == ["reference.json"]


def test_quantiles_are_values_of_images(tmp_path: Path) -> None:
    arrays = draw(np.random.default_rng(1), 300)
    reference = build_reference(**arrays)
    padding = reference.quantities["padding"]
    assert padding.quantiles.shape == (POINTS,)
    assert set(padding.quantiles) <= set(arrays["padding"].astype("float32"))
    assert (padding.quantiles == 0).mean() == pytest.approx((arrays["padding"] == 0).mean(), abs=0.005)


def test_labels_are_shares_of_the_predictions() -> None:
    arrays = draw(np.random.default_rng(1), 300)
    reference = build_reference(**arrays)
    assert list(reference.labels) == list(CLASSES)
    assert reference.labels["Normal"] == pytest.approx((arrays["labels"] == CLASSES.index("Normal")).mean())
    assert reference.answers == 300


def test_answers_and_image_statistics_may_be_of_different_images() -> None:
    arrays = draw(np.random.default_rng(1), 300)
    fewer = {name: arrays[name][:200] for name in ("confidence", "covid19", "labels")}
    reference = build_reference(**(arrays | fewer))
    assert (reference.answers, reference.quantities["distance"].n) == (200, 300)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("confidence", np.array([np.nan] * 300), "confidence"),
        ("padding", np.zeros((300, 2)), "padding"),
        ("labels", np.full(300, 7), "a position among 7 classes"),
        ("labels", np.zeros(3, int), "3 labels"),
    ],
)
def test_unusable_arrays_are_an_error(name: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        build_reference(**(draw(np.random.default_rng(1), 300) | {name: value}))


@pytest.mark.parametrize("damage", ["version", "short", "shape", "text", "label"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "reference.json"
    make_reference(300).write(path)
    tree = json.loads(path.read_text())
    if damage == "version":
        tree["schema_version"] = 2
    elif damage == "short":
        tree["quantities"]["padding"]["quantiles"].pop()
    elif damage == "shape":
        tree["distance"]["mean"].pop()
    elif damage == "label":
        del tree["labels"]["Covid19"]
    path.write_text("{" if damage == "text" else json.dumps(tree))
    with pytest.raises(BundleError, match=r"[Ee]xpected .*reference\.json|reference\.json: expected"):
        parse_reference(path.read_bytes(), str(path))
