from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.formatting import (
    bounds,
    count,
    flatten,
    joined,
    p_text,
    percent,
    points,
    rate,
    shortened,
    titles,
)


def test_a_rate_carries_its_interval_where_it_has_one():
    assert rate(Interval(98.5, 97.4, 99.2)) == "98.50\N{NO-BREAK SPACE}% (97.40 to 99.20)"
    assert rate(Interval(98.5)) == "98.50\N{NO-BREAK SPACE}%"
    assert rate(Interval(None)) == "an undefined share"
    assert percent(None) == "an undefined share"


def test_small_p_values_are_bounded():
    assert p_text(0.0004) == "p < 0.001"
    assert p_text(0.0312) == "p = 0.031"


def test_a_difference_of_accuracies_starts_a_comparison():
    assert points(1.2) == "1.20 points of 7-class accuracy more than"
    assert points(-1.2) == "1.20 points of 7-class accuracy less than"
    assert points(0.004) == "Tied with"
    assert points(None) == "An undefined difference to"
    assert bounds(Interval(1.2, -1.1, 5.0)) == "−1.10 to +5.00"


def test_lists_and_numbers_read_as_words():
    assert titles(["scratch"]) == ["training from scratch"]
    assert joined(["a"]) == "a"
    assert joined(["a", "b", "c"]) == "a, b and c"
    assert count(1, "image", "images") == "1 image"
    assert count(1200, "image", "images") == "1,200 images"


def test_long_names_end_in_an_ellipsis():
    assert shortened("actualmed-covid-chestxray-dataset") == "actualmed-covid-che…"
    assert shortened("chest_xray") == "chest_xray"


def test_every_value_comes_with_the_path_to_it_in_order() -> None:
    tree = {"seed": 1, "model": {"alpha": 1.0, "head": {"units": [2]}}, "none": {}, 7: None}
    assert list(flatten(tree)) == [
        (("seed",), 1),
        (("model", "alpha"), 1.0),
        (("model", "head", "units"), [2]),
        (("7",), None),
    ]
