from pathlib import Path

import pytest

from cxr_platform.errors import RegistryError
from cxr_platform.monitoring.shadow_counts import read_shadow_counts, shadow_counts

DECISIONS = "ray_cxr_shadow_decisions_total"


def decision(count: int, ours: str, theirs: str, challenger: str = "v2", worker: str = "a") -> str:
    return (
        f'{DECISIONS}{{version="v1",challenger="{challenger}",decision="{ours}",challenger_decision="{theirs}",'
        f'WorkerId="{worker}"}} {count}.0'
    )


NODE = "\n".join(
    [
        f"# TYPE {DECISIONS} counter",
        decision(60, "negative", "negative"),
        decision(10, "negative", "negative", worker="b"),
        decision(5, "negative", "positive"),
        decision(999, "positive", "positive", challenger="v3"),
        'ray_cxr_shadow_skipped_images_total{reason="queue-full",WorkerId="a"} 4.0',
        'ray_cxr_drift_psi{quantity="contrast",version="v2",WorkerId="a"} 0.1',
        'ray_cxr_drift_psi{quantity="contrast",version="v2",WorkerId="b"} 0.4',
        'ray_cxr_drift_psi{quantity="contrast",version="v1",WorkerId="b"} 9.0',
        'ray_cxr_drift_window_images{quantity="contrast",version="v2",WorkerId="a"} 300.0',
        'ray_cxr_drift_window_images{quantity="contrast",version="v2",WorkerId="b"} 100.0',
        'ray_cxr_drift_window_images{quantity="padding",version="v2",WorkerId="b"} 3.0',
        "",
    ]
)


def test_replicas_and_nodes_are_added_up() -> None:
    counts = shadow_counts({"a": NODE, "b": NODE}, "v1", "v2")
    assert counts.decisions == {("negative", "negative"): 140, ("negative", "positive"): 10}
    assert counts.images == 150
    assert counts.skipped == {"queue-full": 8}
    assert counts.drift == {"contrast": pytest.approx(0.175)}


def test_agreement_is_the_share_of_equal_decisions() -> None:
    agreement = shadow_counts({"a": NODE}, "v1", "v2").agreement
    assert agreement.value == pytest.approx(100 * 70 / 75)
    assert agreement.low is not None
    assert agreement.high is not None
    assert 84 < agreement.low < agreement.value < agreement.high < 98


def test_without_images_nothing_is_stated() -> None:
    counts = shadow_counts({"a": ""}, "v1", "v2")
    assert (counts.images, counts.agreement.value, counts.drift) == (0, None, {})


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1/metrics", "no address", "file:///nowhere", "http://127.0.0.1:98x1/"]
)
def test_an_address_without_metrics_is_an_error(address: str) -> None:
    with pytest.raises(RegistryError, match="Expected the metrics of a server at"):
        read_shadow_counts([address], "v1", "v2")


def test_a_page_that_is_no_metrics_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("<!doctype html>\n<title>Screening</title>\n")
    with pytest.raises(RegistryError, match="not that of the server"):
        read_shadow_counts([(tmp_path / "page").as_uri()], "v1", "v2")


def test_metrics_are_read_from_an_address(tmp_path: Path) -> None:
    (tmp_path / "metrics").write_text(NODE)
    assert read_shadow_counts([(tmp_path / "metrics").as_uri()], "v1", "v2").images == 75
