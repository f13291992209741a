import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from cxr_platform.errors import ServingError
from cxr_platform.labels import CLASSES
from cxr_platform.monitoring import names, registry_exporter
from cxr_platform.monitoring.registry_exporter import RegistryCollector, serve_registry
from cxr_platform.registry.bundle import REFERENCE, Bundle, read_bundle
from cxr_platform.registry.promotion import promote, rollback
from cxr_platform.registry.store import Registry, VersionCheck
from tests.monitoring.builders import make_reference
from tests.monitoring.test_job_metrics import Samples, parse
from tests.registry.builders import make_bundle, write_members

LONG = 120.0


def fill(folder: Path, version: str) -> Bundle:
    write_members(folder, version)
    make_reference(300).write(folder / REFERENCE)
    return make_bundle(version)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape waits for the comparison on a busy machine too."""
    monkeypatch.setattr(registry_exporter, "PATIENCE_SECONDS", LONG)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "registry")
    for _ in range(2):
        registry.add(fill)
    promote(registry, "v1")
    return registry


def scrape(collector: RegistryCollector) -> Samples:
    collectors = CollectorRegistry()
    collectors.register(collector)
    return parse(generate_latest(collectors).decode())


def test_the_champion_its_rates_and_its_reference_are_exported(registry: Registry) -> None:
    samples = scrape(RegistryCollector(registry.root))
    v1 = (("version", "v1"),)
    assert samples["cxr_registry_readable", ()] == 1
    assert samples["cxr_registry_versions", ()] == 2
    assert samples["cxr_registry_broken_versions", ()] == 0
    assert samples["cxr_registry_champion_info", (("strategy", "scratch"), ("synthetic", "false"), *v1)] == 1
    assert samples["cxr_registry_champion_created_timestamp_seconds", v1] == 1769860800
    assert samples["cxr_registry_champion_sensitivity_ratio", (("bound", "value"), *v1)] == 0.9
    assert samples["cxr_registry_champion_sensitivity_ratio", (("bound", "low"), *v1)] == 0.85
    assert ("cxr_registry_champion_sensitivity_ratio", (("bound", "high"), *v1)) not in samples, "undefined"
    indeterminate = (("bound", "value"), ("decision", "indeterminate"), *v1)
    assert samples["cxr_registry_champion_decisions_ratio", indeterminate] == 0.05
    shares = [samples["cxr_reference_predictions_ratio", (("label", label), *v1)] for label in CLASSES]
    assert sum(shares) == pytest.approx(1)
    exported = {name for metric in names.METRICS if metric.source == "exporter" for name in metric.series}
    assert {name for name, _ in samples} == exported


def test_a_file_system_error_is_a_registry_that_cannot_be_read(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Registry) -> None:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(Registry, "state", fail)
    assert scrape(RegistryCollector(registry.root)) == {("cxr_registry_readable", ()): 0}


def test_another_champion_is_exported_at_the_next_scrape(registry: Registry) -> None:
    collector = RegistryCollector(registry.root)
    scrape(collector)
    promote(registry, "v2", force=True)
    samples = scrape(collector)
    champions = [dict(labels)["version"] for name, labels in samples if name == "cxr_registry_champion_info"]
    assert champions == ["v2"]
    event = rollback(registry)
    samples = scrape(collector)
    assert samples["cxr_registry_changes_total", (("action", "rollback"), ("forced", "false"))] == 1
    assert sum(n for (name, _), n in samples.items() if name == "cxr_registry_changes_total") == 3
    effective = samples["cxr_registry_champion_effective_timestamp_seconds", (("version", "v1"),)]
    assert effective == event.effective_at.timestamp()


def test_a_changed_byte_is_counted(registry: Registry) -> None:
    (registry.root / "v1" / "MODEL_CARD.md").write_text("better")
    samples = scrape(RegistryCollector(registry.root))
    assert samples["cxr_registry_broken_versions", ()] == 1
    assert not [labels for name, labels in samples if name == "cxr_registry_champion_info"]


def test_checksums_are_compared_again_after_an_interval(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    collector = RegistryCollector(registry.root)
    scrape(collector)
    (registry.root / "v2" / "MODEL_CARD.md").write_text("better")
    assert scrape(collector)["cxr_registry_broken_versions", ()] == 0
    monkeypatch.setattr(registry_exporter, "VERIFY_SECONDS", 0.0)
    assert scrape(collector)["cxr_registry_broken_versions", ()] == 1


def test_an_empty_registry_is_readable_and_a_broken_one_is_not(tmp_path: Path) -> None:
    samples = scrape(RegistryCollector(tmp_path / "none"))
    assert (samples["cxr_registry_readable", ()], samples["cxr_registry_versions", ()]) == (1, 0)
    (tmp_path / "registry.json").write_text("{")
    assert scrape(RegistryCollector(tmp_path)) == {("cxr_registry_readable", ()): 0}


def test_metrics_are_served_and_a_taken_port_is_an_error(registry: Registry) -> None:
    server = serve_registry(registry.root, "127.0.0.1", 0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
            assert parse(answer.read().decode())["cxr_registry_versions", ()] == 2
        with pytest.raises(ServingError, match="Expected to listen on"):
            serve_registry(registry.root, "127.0.0.1", server.server_port)
    finally:
        server.shutdown()
        server.server_close()


class Slow:
    """Replaces `Registry.verify`: waits for permission, and counts the calls in progress."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.calls = self.at_once = self.most_at_once = 0

    def __call__(self) -> tuple[VersionCheck, ...]:
        self.calls += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        assert self.may_end.wait(LONG)
        self.at_once -= 1
        return (VersionCheck("v1", "broken"), VersionCheck("v2", None))


def test_a_comparison_longer_than_the_wait_of_scrapes_runs_once(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector, slow = RegistryCollector(registry.root), Slow()
    assert scrape(collector)["cxr_registry_broken_versions", ()] == 0
    monkeypatch.setattr(registry_exporter, "VERIFY_SECONDS", 0.0)
    monkeypatch.setattr(registry_exporter, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(Registry, "verify", slow)
    for _ in range(5):
        samples = scrape(collector)
        assert samples["cxr_registry_broken_versions", ()] == 0, "what was known before"
        assert samples["cxr_registry_readable", ()] == 1
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(lambda _: scrape(collector), range(16)))) == 16
    assert (slow.calls, slow.most_at_once) == (1, 1)
    monkeypatch.setattr(registry_exporter, "PATIENCE_SECONDS", LONG)
    monkeypatch.setattr(registry_exporter, "VERIFY_SECONDS", 600.0)
    slow.may_end.set()
    assert scrape(collector)["cxr_registry_broken_versions", ()] == 1
    assert slow.calls == 1


def test_before_the_first_comparison_there_is_no_value(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow()
    monkeypatch.setattr(Registry, "verify", slow)
    monkeypatch.setattr(registry_exporter, "PATIENCE_SECONDS", 0.01)
    samples = scrape(RegistryCollector(registry.root))
    assert ("cxr_registry_broken_versions", ()) not in samples
    assert samples["cxr_registry_versions", ()] == 2
    slow.may_end.set()


def test_a_broken_champion_is_opened_again_after_an_interval(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []

    def counted(folder: Path, sha256: str) -> Bundle:
        opened.append(folder)
        return read_bundle(folder, sha256)

    monkeypatch.setattr(registry_exporter, "read_bundle", counted)
    model_card = registry.root / "v1" / "MODEL_CARD.md"
    content = model_card.read_bytes()
    model_card.write_text("better")
    collector = RegistryCollector(registry.root)
    for _ in range(3):
        assert scrape(collector)["cxr_registry_broken_versions", ()] == 1
    assert len(opened) == 1
    model_card.write_bytes(content)
    monkeypatch.setattr(registry_exporter, "REOPEN_SECONDS", 0.0)
    monkeypatch.setattr(registry_exporter, "VERIFY_SECONDS", 0.0)
    samples = scrape(collector)
    assert samples["cxr_registry_broken_versions", ()] == 0
    assert [labels for name, labels in samples if name == "cxr_registry_champion_info"]
    scrape(collector)
    assert len(opened) == 2, "what was opened stays so"


def test_a_failed_comparison_keeps_the_last_value_and_runs_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    collector = RegistryCollector(registry.root)
    scrape(collector)
    monkeypatch.setattr(registry_exporter, "VERIFY_SECONDS", 0.0)

    def fail(_: Registry) -> None:
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as failing:
        failing.setattr(Registry, "verify", fail)
        assert scrape(collector)["cxr_registry_broken_versions", ()] == 0
    assert "Stale file handle" in caplog.text
    (registry.root / "v2" / "MODEL_CARD.md").write_text("better")
    assert scrape(collector)["cxr_registry_broken_versions", ()] == 1
