import pytest

from cxr_platform.evaluation.statistics.measures import FIGURES_OF_MERIT
from cxr_platform.registry.bundle import MEMBERS, Figure
from cxr_platform.registry.bundle_rules import NEEDED_METRICS, RATIOS, check_rules, is_utc_time
from cxr_platform.registry.checksums import Stamp
from cxr_platform.registry.strict_json import Mismatch
from tests.registry.builders import make_bundle

FILES = {name: Stamp("0" * 64, 1) for name in MEMBERS}


def test_the_metrics_are_called_and_measured_as_in_the_report():
    assert {name for name, measure in FIGURES_OF_MERIT.items() if measure.ratio} == RATIOS
    assert {*NEEDED_METRICS} <= {*FIGURES_OF_MERIT}


def test_a_good_bundle_keeps_every_rule():
    check_rules(make_bundle(files=FILES), MEMBERS)


def test_an_undefined_figure_is_no_broken_rule():
    metrics = make_bundle().metrics | {"sensitivity": Figure(None)}
    check_rules(make_bundle(files=FILES, metrics=metrics), MEMBERS)


def test_a_ratio_that_was_written_in_percent_is_seen():
    metrics = make_bundle().metrics | {"roc_auc": Figure(97.0)}
    with pytest.raises(Mismatch, match=r"metrics\.roc_auc from 0 to 2"):
        check_rules(make_bundle(files=FILES, metrics=metrics), MEMBERS)


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-01-31T12:00:00+00:00", True),
        ("2026-01-31T12:00:00.123+00:00", True),
        ("2026-01-31T12:00:00", False),
        ("2026-01-31T12:00:00+01:00", False),
        ("soon", False),
        ("", False),
    ],
)
def test_times_state_utc(text, utc):
    assert is_utc_time(text) is utc
