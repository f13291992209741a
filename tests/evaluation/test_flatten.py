from cxr_platform.evaluation.flatten import leaves


def test_every_value_comes_with_the_path_to_it_in_order() -> None:
    tree = {"seed": 1, "model": {"alpha": 1.0, "head": {"units": [2]}}, "none": {}, 7: None}
    assert list(leaves(tree)) == [
        (("seed",), 1),
        (("model", "alpha"), 1.0),
        (("model", "head", "units"), [2]),
        (("7",), None),
    ]
