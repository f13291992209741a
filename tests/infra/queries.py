"""The queries in infra/, and the metrics and labels that they use."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cxr_platform.monitoring.names import METRICS
from tests.conftest import REPOSITORY

RULES = REPOSITORY / "infra" / "prometheus" / "rules.yml"
DASHBOARDS = sorted((REPOSITORY / "infra" / "grafana").glob("*.json"))

METRIC_NAME = re.compile(r"\b(?:ray_)?cxr_\w+")
RECORDED_NAME = re.compile(r"\bcxr:[\w:]+")
RAY_NAME = re.compile(r"\bray_(?!cxr_)\w+")
ANY_LABEL = {"le", "job", "instance", "alertname", "alertstate", "WorkerId"}
RAY_LABELS = {"NodeAddress", "Location", "deployment", "Name", "State"}
"""Labels of Ray's own series; tests/infra/test_watched.py asks a server for these."""
LABELS: dict[str, set[str]] = {series: set(metric.labels) for metric in METRICS for series in metric.series}


def rules() -> list[dict[str, Any]]:
    """All rules, recorded and alerting."""
    return [rule for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]


def recorded() -> dict[str, str]:
    """Query by recorded name."""
    return {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


def dashboard_queries(path: Path) -> Iterator[tuple[str, str, str]]:
    """Panel, query and legend of a dashboard."""
    tree = json.loads(path.read_text(encoding="utf-8"))
    for panel in tree["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"], target["legendFormat"]
    for annotation in tree["annotations"]["list"]:
        yield annotation["name"], annotation["expr"], annotation["titleFormat"]


def unknown_names(query: str) -> set[str]:
    """Names in `query` that neither the platform exports nor the rules record."""
    exported = {name for name in METRIC_NAME.findall(query) if name not in LABELS}
    return exported | {name for name in RECORDED_NAME.findall(query) if name not in recorded()}


def unknown_labels(query: str, legend: str = "") -> set[str]:
    """Labels in matchers, `by (…)`, `on (…)` or the legend that none of the metrics asked for has."""
    whole = query
    for name in RECORDED_NAME.findall(query):
        whole += recorded()[name]
    known = {label for name in METRIC_NAME.findall(whole) for label in LABELS.get(name, set())} | ANY_LABEL
    known |= RAY_LABELS if RAY_NAME.search(whole) else set()
    asked = {name for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", query) for name in re.findall(r"\w+", group)}
    asked |= {name for group in re.findall(r"{([^{}]*)}", query) for name in re.findall(r"(\w+) *[=!]", group)}
    return (asked | set(re.findall(r"{{ *(\w+) *}}", legend))) - known
