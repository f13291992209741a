from typing import Any

import numpy as np
import pytest

from cxr_platform.domain.operating_point import DecisionRule, OperatingPoint, is_negative, is_positive
from cxr_platform.errors import ConfigError
from cxr_platform.validation import validate

ZONE = (0.25, 0.75)
RULE: dict[str, Any] = {"target_sensitivity": 0.95, "threshold": 0.5, "zone": [0.25, 0.75]}
RATE = {"value": 40.0, "low": 30.0, "high": 50.0}
DECISIONS = dict.fromkeys(("true_positive", "false_negative", "true_negative", "false_positive", "indeterminate"), RATE)


def test_a_probability_is_positive_from_the_upper_end_and_negative_below_the_lower_end() -> None:
    probabilities = np.array([0.0, 0.2499, 0.25, 0.5, 0.7499, 0.75, 1.0])
    assert is_positive(probabilities, ZONE).tolist() == [False] * 5 + [True] * 2
    assert is_negative(probabilities, ZONE).tolist() == [True] * 2 + [False] * 5
    assert not (is_positive(probabilities, ZONE) & is_negative(probabilities, ZONE)).any()


def test_a_zone_of_no_width_leaves_nothing_indeterminate() -> None:
    for probability in (0.0, 0.5, 1.0):
        assert is_positive(probability, (0.5, 0.5)) != is_negative(probability, (0.5, 0.5))


def test_a_rule_is_read_from_plain_values() -> None:
    rule = validate(DecisionRule, RULE, "bundle.json")
    assert (rule.target_sensitivity, rule.threshold, rule.zone) == (0.95, 0.5, (0.25, 0.75))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_sensitivity": 0}, "target_sensitivity: expected greater than 0"),
        ({"target_sensitivity": 1.1}, "target_sensitivity: expected less than or equal to 1"),
        ({"threshold": -0.1}, "threshold: expected greater than or equal to 0"),
        ({"zone": [0.25, 1.2]}, "zone.1: expected less than or equal to 1"),
        ({"zone": [0.75, 0.25]}, "zone to rise"),
        ({"zone": [0.5]}, "zone"),
        ({"treshold": 0.5}, "Did you mean 'threshold'"),
    ],
)
def test_a_rule_out_of_range_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=r"bundle\.json") as caught:
        validate(DecisionRule, {**RULE, **changes}, "bundle.json")
    assert message in str(caught.value)


def test_an_operating_point_has_its_rates() -> None:
    tree = {**RULE, "sensitivity": RATE, "specificity": RATE, "decisions": DECISIONS}
    point = validate(OperatingPoint, tree, "bundle.json")
    assert point.sensitivity.value == 40.0
    assert point.decisions.indeterminate.high == 50.0
    left_out = {name: rate for name, rate in DECISIONS.items() if name != "indeterminate"}
    with pytest.raises(ConfigError, match=r"decisions: missing indeterminate"):
        validate(OperatingPoint, {**tree, "decisions": left_out}, "bundle.json")


def test_rates_of_one_kind_of_image_are_at_most_100_percent_together() -> None:
    decisions = {**DECISIONS, "false_negative": {"value": 70.0, "low": 60.0, "high": 80.0}}
    tree = {**RULE, "sensitivity": RATE, "specificity": RATE, "decisions": decisions}
    with pytest.raises(ConfigError, match="true_positive and false_negative of at most 100 % together, not 110"):
        validate(OperatingPoint, tree, "bundle.json")
