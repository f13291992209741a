import re

import pytest

from cxr_platform.monitoring.names import METRICS, REQUEST_SECONDS, REQUESTS, STUDY_TRIALS, Metric

UNITS = ("_seconds", "_ratio", "_images", "_files", "_info", "_requests", "_versions", "_trials", "_epochs")
WITHOUT_UNIT = ("_psi", "_ks", "_success", "_readable")


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_the_conventions_of_prometheus(metric: Metric) -> None:
    assert re.fullmatch(r"cxr_[a-z]+(_[a-z]+)*", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.kind == "counter" or metric.name.endswith(UNITS + WITHOUT_UNIT)
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert metric.help
    assert not metric.help.endswith(".")


def test_every_name_is_unique() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS) > 25


def test_labels_are_not_used_by_prometheus_or_ray() -> None:
    taken = {"job", "instance", "le", "quantile", "WorkerId", "Version", "NodeAddress", "SessionName", "Component"}
    assert {label for metric in METRICS for label in metric.labels} & taken == set()


def test_series_are_the_names_in_prometheus() -> None:
    assert REQUESTS.series == ("ray_cxr_requests_total",)
    assert STUDY_TRIALS.series == ("cxr_study_trials",)
    assert REQUEST_SECONDS.series == tuple(f"ray_cxr_request_duration_seconds_{p}" for p in ("bucket", "sum", "count"))
