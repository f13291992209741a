"""infra/prometheus, checked by promtool of Debian's package prometheus where that is installed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from cxr_platform.storage.node_cache import LIMIT as CACHE_GIB
from pipelines.exporter import PORT
from pipelines.serve import METRICS_PORT
from tests.conftest import REPOSITORY
from tests.infra.queries import RULES, rules, unknown_labels, unknown_names
from tests.infra.rendered import EACH, clusters, environment, gib, groups, ray_container, rendered_with

CONFIG = REPOSITORY / "infra" / "prometheus" / "prometheus.yml"


@pytest.fixture(scope="session")
def promtool() -> str:
    program = shutil.which("promtool")
    if not program:
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    return program


def run(*words: str | Path) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_promtool_accepts_configuration_and_rules(promtool: str) -> None:
    assert "SUCCESS" in run(promtool, "check", "config", "--lint=all", "--lint-fatal", CONFIG)
    assert "SUCCESS" in run(promtool, "check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_promtool_accepts_the_relabelling_for_kubernetes(promtool: str, tmp_path: Path) -> None:
    """Debian builds Prometheus without the discovery of Kubernetes' pods, which is left out here therefore."""
    config = yaml.safe_load(CONFIG.with_name("kubernetes.yml").read_text(encoding="utf-8"))
    for job in config["scrape_configs"]:
        assert job.pop("kubernetes_sd_configs")
    (tmp_path / "kubernetes.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    shutil.copy(RULES, tmp_path)
    assert "SUCCESS" in run(promtool, "check", "config", "--lint=all", "--lint-fatal", tmp_path / "kubernetes.yml")


def test_rules_give_the_expected_alerts_on_known_series(promtool: str) -> None:
    assert "SUCCESS" in run(promtool, "test", "rules", Path(__file__).parent / "prometheus_rules.yml")


def test_rules_use_only_exported_metrics_and_labels() -> None:
    for rule in rules():
        words = " ".join(rule.get("annotations", {}).values())
        assert unknown_names(rule["expr"]) == set(), rule
        assert unknown_labels(rule["expr"], words.replace("$labels.", "")) == set(), rule


def test_an_unknown_metric_or_label_is_reported() -> None:
    assert unknown_names("rate(ray_cxr_request_total[5m]) / cxr:drift:mean") == {
        "ray_cxr_request_total",
        "cxr:drift:mean",
    }
    assert unknown_names("cxr_requests_total") == {"cxr_requests_total"}, "replicas' metrics begin with ray_"
    assert unknown_names("ray_cxr_request_duration_seconds") == {"ray_cxr_request_duration_seconds"}
    assert unknown_labels('sum by (status) (ray_cxr_requests_total{code="200"})', "{{path}}") == {"code", "path"}
    assert unknown_labels('cxr:requests:rate5m{status="200"}') == set()


def test_every_alert_says_what_to_do() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len(alerts) >= 10
    for alert in alerts:
        assert set(alert["annotations"]) == {"summary", "action"}
        assert alert["labels"]["severity"] in ("warning", "critical")


def test_every_alert_fires_in_a_test() -> None:
    assert [rule["alert"] for rule in rules() if "alert" in rule and rule["alert"] not in fired()] == []


def fired() -> set[str]:
    """Alerts that the tests of promtool expect, and not only name."""
    tree = yaml.safe_load((Path(__file__).parent / "prometheus_rules.yml").read_text(encoding="utf-8"))
    alerts = {a["alertname"] for test in tree["tests"] for a in test.get("alert_rule_test", []) if a["exp_alerts"]}
    counts = [count for test in tree["tests"] for count in test["promql_expr_test"] if "ALERTS" in count["expr"]]
    labels = " ".join(sample["labels"] for count in counts for sample in count["exp_samples"])
    return alerts | set(re.findall(r'alertname="(\w+)"', labels))


@EACH
def test_spilling_is_reported_before_the_volume_is_full(folder: str) -> None:
    """The cache of a node is on the same volume."""
    (rule,) = (each for each in rules() if each.get("alert") == "CxrSpilling")
    (threshold,) = re.findall(r"> (\d+) \* 2 \^ 30$", rule["expr"])
    for group in groups(clusters(folder)["RayCluster"]):
        (volume,) = (each for each in group["template"]["spec"]["volumes"] if each["name"] == "spill")
        room = gib(volume["emptyDir"]["sizeLimit"]) - float(environment(ray_container(group))[CACHE_GIB])
        assert int(threshold) <= room / 2


def test_the_configuration_names_the_ports_of_exporter_server_and_ray() -> None:
    jobs = {job["job_name"]: job for job in yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["scrape_configs"]}
    assert jobs["cxr-registry"]["static_configs"][0]["targets"] == [f"127.0.0.1:{PORT}"]
    assert jobs["ray"]["static_configs"][0]["targets"] == [f"127.0.0.1:{METRICS_PORT}"]
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    assert jobs["ray"]["file_sd_configs"][0]["files"] == [
        f"/tmp/ray/session_latest/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"
    ]


def test_make_serve_uses_the_metrics_port_of_the_configuration() -> None:
    output = run("make", "-C", REPOSITORY, "--dry-run", "serve")
    assert f"--metrics-port {METRICS_PORT}" in output


def test_the_objects_for_the_prometheus_operator_say_the_same(tmp_path: Path) -> None:
    """kubernetes.yml and rules.yml, of which these are copies in other words."""
    trees = rendered_with("prometheus-operator", "overlays/gpu", tmp_path)
    (own,) = (tree for tree in trees if tree["kind"] == "PrometheusRule")
    assert own["spec"] == yaml.safe_load(RULES.read_text(encoding="utf-8"))
    monitors = {tree["metadata"]["name"]: tree["spec"] for tree in trees if tree["kind"] == "PodMonitor"}
    config = yaml.safe_load(CONFIG.with_name("kubernetes.yml").read_text(encoding="utf-8"))
    assert set(monitors) == {job["job_name"] for job in config["scrape_configs"]}
    for job in config["scrape_configs"]:
        monitor = monitors[job["job_name"]]
        (endpoint,) = monitor["podMetricsEndpoints"]
        assert endpoint["interval"] == config["global"]["scrape_interval"]
        assert {"targetLabel": "job", "replacement": job["job_name"]} in endpoint["relabelings"]
        kept = next(rule for rule in job["relabel_configs"] if rule.get("action") == "keep")
        (label, value), *_ = monitor["selector"]["matchLabels"].items()
        assert f"__meta_kubernetes_pod_label_{re.sub('[^a-z]', '_', label)}" in kept["source_labels"]
        assert kept["regex"].endswith(value)
        ports = [rule["regex"] for rule in job["relabel_configs"] if "port_name" in str(rule.get("source_labels"))]
        assert ports == [endpoint["port"]]
