"""infra/kubernetes: ports, probes, policies and what Prometheus scrapes."""

from typing import Any

import pytest
import yaml

from cxr_platform.serving.upload import Limits
from tests.conftest import REPOSITORY
from tests.infra.dockerfile import dockerfile
from tests.infra.rendered import (
    EACH,
    KUBERNETES,
    Tree,
    clusters,
    containers,
    groups,
    objects,
    one,
    pods,
    ray_container,
)
from tests.infra.test_schemas import problems

AGENT, DASHBOARD, SERVE, METRICS, EXPORTER = 52365, 8265, 8000, 8080, 9810


@EACH
def test_probes_ask_an_address_that_needs_no_token(folder: str) -> None:
    from ray._private.ray_constants import DEFAULT_DASHBOARD_AGENT_LISTEN_PORT
    from ray.dashboard.http_server_agent import PUBLIC_EXACT_PATHS

    assert DEFAULT_DASHBOARD_AGENT_LISTEN_PORT == AGENT
    for kind, cluster in clusters(folder).items():
        for group in groups(cluster):
            container = ray_container(group)
            probes = [container["livenessProbe"]]
            if kind == "RayService" and "groupName" in group:
                assert "readinessProbe" not in container, "KubeRay's own asks Serve's proxy too"
                assert "wget" in dockerfile().debian, "with wget"
            else:
                probes.append(container["readinessProbe"])
            for probe in probes:
                assert probe["httpGet"] == {"path": "/api/healthz", "port": AGENT}
                assert probe["httpGet"]["path"] in PUBLIC_EXACT_PATHS
    assert dockerfile().environment["HEALTH_URL"] == f"http://127.0.0.1:{AGENT}/api/healthz"


def test_all_traffic_is_denied_by_default() -> None:
    closed = one("base", "NetworkPolicy", "deny-all")["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@EACH
def test_other_pods_are_admitted_by_label_and_port(folder: str) -> None:
    inside, *others = one(folder, "NetworkPolicy", "ray-nodes")["spec"]["ingress"]
    assert inside == {"from": [{"podSelector": {"matchLabels": {"ray.io/is-ray-node": "yes"}}}]}
    for rule in others:
        assert len(rule["from"]) == 1
        assert {each["port"] for each in rule["ports"]} <= {DASHBOARD, SERVE, METRICS}
    assert sorted(port["port"] for rule in others for port in rule["ports"]) == [
        SERVE,
        SERVE,
        METRICS,
        DASHBOARD,
        DASHBOARD,
    ]


@EACH
def test_other_namespaces_are_admitted_by_label(folder: str) -> None:
    readme = (REPOSITORY / "infra" / "README.md").read_text(encoding="utf-8")
    admitted = []
    for policy in (each for each in objects(folder) if each["kind"] == "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            for peer in rule["from"]:
                assert peer.get("podSelector", {"matchLabels": True}), "not every pod"
                if "namespaceSelector" in peer:
                    (label,) = peer["namespaceSelector"]["matchLabels"].items()
                    assert "=".join(label) in readme
                    admitted.append("=".join(label))
    labels = ("client", "monitoring", "monitoring", "operator")
    assert sorted(admitted) == [f"cxr-platform/{name}=true" for name in labels]


@EACH
def test_pods_have_the_labels_that_policies_select(folder: str) -> None:
    labelled = [pod["metadata"]["labels"] for pod in pods(objects(folder)) if "labels" in pod.get("metadata", {})]
    for name, key in (("submitter", "app.kubernetes.io/component"), ("exporter", "app.kubernetes.io/name")):
        wanted = one(folder, "NetworkPolicy", name)["spec"]["podSelector"]["matchLabels"]
        assert list(wanted) == [key]
        assert [each for each in labelled if wanted.items() <= each.items()], name
    submitter = one(folder, "NetworkPolicy", "submitter")["spec"]
    admitted = one(folder, "NetworkPolicy", "ray-nodes")["spec"]["ingress"][1]
    assert admitted["from"] == [{"podSelector": submitter["podSelector"]}]
    assert admitted["ports"] == submitter["egress"][0]["ports"] == [{"port": DASHBOARD}]


@EACH
def test_ports_have_the_names_that_kuberay_and_prometheus_expect(folder: str) -> None:
    known = {"gcs-server": 6379, "dashboard": DASHBOARD, "client": 10001, "metrics": METRICS, "serve": SERVE}
    for kind, cluster in clusters(folder).items():
        for group in groups(cluster):
            ports = {each["name"]: each["containerPort"] for each in ray_container(group)["ports"]}
            assert ports.items() <= known.items()
            assert ("serve" in ports) == (kind == "RayService")
            assert "groupName" in group or set(ports) >= set(known) - {"serve"}


@EACH
def test_annotations_for_prometheus_name_a_port_of_the_pod(folder: str) -> None:
    scraped = [pod for pod in pods(objects(folder)) if "annotations" in pod.get("metadata", {})]
    assert len(scraped) == sum(len(groups(cluster)) for cluster in clusters(folder).values()) + 1
    for pod in scraped:
        annotations = pod["metadata"]["annotations"]
        port = next(each for each in pod["spec"]["containers"][0]["ports"] if each["name"] == "metrics")
        assert annotations["prometheus.io/scrape"] == "true"
        assert annotations["prometheus.io/path"] == "/metrics"
        assert annotations["prometheus.io/port"] == str(port["containerPort"])
        assert port["containerPort"] in (METRICS, EXPORTER)


@pytest.fixture
def jobs() -> dict[str, Tree]:
    text = (REPOSITORY / "infra" / "prometheus" / "kubernetes.yml").read_text(encoding="utf-8")
    return {job["job_name"]: job for job in yaml.safe_load(text)["scrape_configs"]}


def test_prometheus_scrapes_each_pod_with_metrics_once(jobs: dict[str, Tree]) -> None:
    beside = yaml.safe_load((REPOSITORY / "infra" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    assert set(jobs) <= {job["job_name"] for job in beside["scrape_configs"]}
    targets: dict[str, list[str]] = {name: [] for name in jobs}
    for pod, container in containers("base"):
        for port in container.get("ports", []):
            for name, job in jobs.items():
                address = _target(job["relabel_configs"], _discovered(pod, port))
                targets[name] += [address] if address else []
    nodes = sum(len(groups(cluster)) for cluster in clusters("base").values())
    assert targets == {"ray": [f"10.0.0.1:{METRICS}"] * nodes, "cxr-registry": [f"10.0.0.1:{EXPORTER}"]}
    for job in jobs.values():
        assert job["kubernetes_sd_configs"] == [{"role": "pod", "namespaces": {"names": ["cxr"]}}]


def _discovered(pod: Tree, port: Tree) -> dict[str, str]:
    """The labels that Prometheus' discovery gives a pod's port; KubeRay marks its pods as Ray nodes."""
    metadata = pod.get("metadata", {})
    labels = dict(metadata.get("labels", {}))
    if pod["spec"]["containers"][0]["name"] in ("ray-head", "ray-worker"):
        labels["ray.io/is-ray-node"] = "yes"
    metadata_labels = {f"label_{key}": value for key, value in labels.items()}
    metadata_labels |= {f"annotation_{key}": value for key, value in metadata.get("annotations", {}).items()}
    metadata_labels |= {"container_port_name": port["name"], "ip": "10.0.0.1"}
    return {
        "__meta_kubernetes_pod_" + key.translate(str.maketrans("./-", "___")): value
        for key, value in metadata_labels.items()
    }


def _target(rules: list[dict[str, Any]], labels: dict[str, str]) -> str | None:
    """The address that relabelling leaves, if it keeps the target: of Prometheus' actions, keep and replace."""
    for rule in rules:
        text = rule.get("separator", ";").join(labels.get(name, "") for name in rule["source_labels"])
        if rule.get("action", "replace") == "keep":
            if text != rule["regex"]:
                return None
        else:
            labels[rule["target_label"]] = text
    return labels["__address__"]


def test_the_ingress_has_a_certificate_and_leads_to_serve() -> None:
    ingress = yaml.safe_load((KUBERNETES / "ingress" / "ingress.yaml").read_text(encoding="utf-8"))
    assert problems(ingress) == []
    (tls,), (rule,) = ingress["spec"]["tls"], ingress["spec"]["rules"]
    assert tls["hosts"] == [rule["host"]]
    (path,) = rule["http"]["paths"]
    name = one("base", "RayService")["metadata"]["name"]
    assert path["backend"]["service"] == {"name": f"{name}-serve-svc", "port": {"number": SERVE}}
    body = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert Limits().body_bytes == (int(body.removesuffix("m")) - 1) * 2**20, "so that the server answers larger ones"
    readme = (REPOSITORY / "infra" / "README.md").read_text(encoding="utf-8")
    assert f"create secret tls {tls['secretName']} " in readme
    component = yaml.safe_load((KUBERNETES / "ingress" / "kustomization.yaml").read_text(encoding="utf-8"))
    assert (component["kind"], component["resources"]) == ("Component", ["ingress.yaml"])
    assert "components: [../cxr-platform/infra/kubernetes/ingress]" in readme
