"""`cxr serve --shadow` on Ray Serve: what clients see, what is counted, and what `cxr registry compare` reads."""

import json
import re
from collections import Counter
from pathlib import Path

import httpx
import pytest

from cxr_platform.monitoring.names import DRIFT_WINDOW
from cxr_platform.monitoring.reference import QUANTITIES
from cxr_platform.monitoring.shadow_counts import read_shadow_counts
from cxr_platform.serving.screener import Screener
from pipelines.registry import main
from tests.ports import free_port
from tests.registry.builders import POINT, changed
from tests.serving.builders import filler, image_png, registry_with_champion
from tests.serving.serve_process import KEY, get, served
from tests.waiting import wait_until

IMAGES = 24
TIMEOUT_SECONDS = 120


@pytest.mark.ray
def test_compare_reads_how_often_a_shadow_of_a_server_decided_as_the_champion(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = registry_with_champion(tmp_path / "registry")
    registry.add(filler(seed=2, operating_point=changed(POINT, threshold=0.6, zone=(0.58, 0.62))))
    images = [image_png(seed) for seed in range(IMAGES)]
    decided = [_decisions(Screener(*registry.open(version), threads=1), images) for version in ("v1", "v2")]
    expected = Counter(zip(*decided, strict=True))
    assert len(expected) > 1, "the challenger's decisions differ, and a count under the wrong pair would be seen"
    metrics_port = free_port()
    metrics = f"http://127.0.0.1:{metrics_port}/metrics"
    options = ["--no-explain", "--min-replicas", "1", "--max-replicas", "1", "--metrics-port", str(metrics_port)]

    with served(registry.root, tmp_path, "--shadow", "v2", *options) as (port, _):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"x-api-key": KEY}, timeout=60) as client:
            answers = [client.post("/v1/screen", files={"file": image}).json() for image in images]
        assert [answer["decision"] for answer in answers] == decided[0]
        assert {answer["model"]["version"] for answer in answers} == {"v1"}, "clients do not see the challenger"
        counts = [read_shadow_counts([metrics], "v1", "v2")]

        def all_counted() -> bool:
            counts.append(read_shadow_counts([metrics], "v1", "v2"))
            return counts[-1].images + sum(counts[-1].skipped.values()) == IMAGES

        wait_until(all_counted, TIMEOUT_SECONDS, describe=lambda: counts[-1])
        windows = {(quantity, version): IMAGES for quantity in (*QUANTITIES, "labels") for version in ("v1", "v2")}
        wait_until(
            lambda: _drift_windows(metrics) == windows, TIMEOUT_SECONDS, describe=lambda: _drift_windows(metrics)
        )
        assert main(["compare", "v2", "--registry", str(registry.root), "--metrics", metrics, "--json"]) == 0

    shadow = json.loads(capsys.readouterr().out)["shadow"]
    read = {(row["champion"], row["challenger"]): row["images"] for row in shadow["decisions"]}
    assert (read, shadow["skipped"]) == (dict(expected), {})
    same = sum(count for (ours, theirs), count in expected.items() if ours == theirs)
    assert shadow["agreement"]["value"] == pytest.approx(100 * same / IMAGES)


def _drift_windows(metrics: str) -> dict[tuple[str, str], int]:
    """Return the images in the drift window of each quantity and version, from the metrics of a server."""
    lines = get(metrics).text.splitlines()
    samples = [line for line in lines if line.startswith(DRIFT_WINDOW.series[0] + "{")]
    labels = [dict(re.findall(r'(\w+)="([^"]*)"', line)) for line in samples]
    counts = [int(float(line.rpartition(" ")[2])) for line in samples]
    return {(label["quantity"], label["version"]): count for label, count in zip(labels, counts, strict=True)}


def _decisions(screener: Screener, images: list[bytes]) -> list[str]:
    return [screening.decision for screening in screener.screen([screener.prepare(image) for image in images])]
