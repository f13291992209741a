import json
import shutil
import subprocess
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from tests.infra.queries import DASHBOARDS, METRIC_NAME, dashboard_queries, recorded, unknown_labels, unknown_names

EACH = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)


@EACH
def test_queries_use_only_exported_metrics_and_labels(path: Path) -> None:
    for panel, query, legend in dashboard_queries(path):
        assert unknown_names(query) == set(), panel
        assert unknown_labels(query, legend) == set(), panel


@EACH
def test_queries_are_promql(path: Path, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    queries = [query for _, query, _ in dashboard_queries(path)]
    listed = [{"record": f"query:{i}", "expr": query} for i, query in enumerate(queries)]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": listed}]}))
    done = subprocess.run([promtool, "check", "rules", tmp_path / "queries.yml"], capture_output=True, text=True)
    assert f"{len(queries)} rules found" in done.stdout, done.stderr


def test_the_main_metrics_are_shown() -> None:
    queries = [query for path in DASHBOARDS for _, query, _ in dashboard_queries(path)]
    shown = {name for query in [*queries, *recorded().values()] for name in METRIC_NAME.findall(query)}
    for name in ("ray_cxr_drift_psi", "ray_cxr_drift_ks", "ray_cxr_requests_total", "ray_cxr_decisions_total",
                 "ray_cxr_quality_refusals_total", "ray_cxr_model_info", "ray_cxr_queued_requests",
                 "cxr_registry_versions", "cxr_registry_changes_total", "cxr_manifest_images",
                 "cxr_study_best_accuracy_ratio"):  # fmt: skip
        assert name in shown


@EACH
def test_panels_do_not_overlap_and_have_descriptions(path: Path) -> None:
    tree = json.loads(path.read_text(encoding="utf-8"))
    panels = tree["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["type"] == "row" or panel["description"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart_across = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart_across or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    assert all(target["datasource"]["uid"] == "${datasource}" for p in panels for target in p.get("targets", []))
    assert "not for diagnosis" in tree["description"]
