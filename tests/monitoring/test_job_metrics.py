import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cxr_platform.errors import ConfigError
from cxr_platform.monitoring import job_metrics, names
from cxr_platform.monitoring.job_metrics import (
    Destination,
    JobMetrics,
    ProgressWatch,
    champion_counts,
    manifest_counts,
    measured,
    study_counts,
)

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parse(text: str) -> Samples:
    values = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in values}


def silent(line: str) -> None:
    raise AssertionError(line)


@pytest.fixture
def gateway() -> Iterator[tuple[str, dict[str, str]]]:
    """A push gateway that keeps the last body by path."""
    received: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            received[self.path] = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    server.server_close()


def test_an_undefined_accuracy_is_not_exported(tmp_path: Path) -> None:
    to = Destination(tmp_path)
    with measured("study", "a", to, silent) as job:
        study_counts(job, {"finished": 6}, {"scratch": None, "fine-tuning-3": 84.0})
    with measured("champion", "a", to, silent) as job:
        champion_counts(job, "scratch", images=300, epochs=12, accuracy=None)
    values = {k: v for path in tmp_path.iterdir() for k, v in parse(path.read_text()).items()}
    accuracies = {labels: value for (name, labels), value in values.items() if "accuracy" in name}
    assert accuracies == {(("strategy", "fine-tuning-3"), ("study", "a")): 0.84}


def test_each_job_writes_its_numbers(tmp_path: Path) -> None:
    to = Destination(tmp_path)
    with measured("manifest", "a", to, silent) as job:
        manifest_counts(job, {("Covid19", "cohen"): 3, ("Normal", "cohen"): 5}, {"low_contrast": 2})
    with measured("study", "a", to, silent) as job:
        study_counts(job, {"finished": 6}, {"scratch": 71.5, "fine-tuning-3": 84.0})
    with measured("champion", "a", to, silent) as job:
        champion_counts(job, "scratch", images=300, epochs=12, accuracy=90.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cxr_champion_a.prom",
        "cxr_manifest_a.prom",
        "cxr_study_a.prom",
    ]
    values = {k: v for path in tmp_path.iterdir() for k, v in parse(path.read_text()).items()}
    assert values["cxr_manifest_images", (("label", "Covid19"), ("source", "cohen"), ("study", "a"))] == 3
    assert values["cxr_manifest_excluded_files", (("reason", "low_contrast"), ("study", "a"))] == 2
    assert values["cxr_study_trials", (("state", "finished"), ("study", "a"))] == 6
    assert values["cxr_study_accuracy_ratio", (("strategy", "scratch"), ("study", "a"))] == 0.715
    assert values["cxr_study_best_accuracy_ratio", (("strategy", "fine-tuning-3"), ("study", "a"))] == 0.84
    assert values["cxr_champion_epochs", (("strategy", "scratch"), ("study", "a"))] == 12
    assert [values["cxr_job_success", (("study", "a"), ("verb", v))] for v in ("manifest", "study", "champion")] == [
        1
    ] * 3
    only_while_running = {names.STUDY_PROGRESS.name, names.STUDY_PACE.name}
    batch = {metric.name for metric in names.METRICS if metric.source == "batch"}
    assert {name for name, _ in values} == batch - only_while_running


def test_a_running_study_exports_its_last_progress_and_its_pace_until_it_ends(tmp_path: Path) -> None:
    times = iter([1000.0, 1010.0, 1090.0, 1180.0])
    file = tmp_path / "cxr_study_a.prom"
    with measured("study", "a", Destination(tmp_path), silent) as job:
        with ProgressWatch(job, Destination(tmp_path), lambda: next(times)) as watch:
            watch.advance()
            assert progress_in(file) == (1000, 0)
            watch.advance()  # too soon for another delivery
            assert progress_in(file) == (1000, 0)
            watch.advance()
            assert progress_in(file) == (1090, 80)
            watch.advance()
            assert progress_in(file) == (1180, 90)
        assert "cxr_study_progress" not in file.read_text()
    assert "cxr_job_success" in file.read_text()
    assert "cxr_study_progress" not in file.read_text()


def test_progress_that_cannot_be_delivered_does_not_end_the_study(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with ProgressWatch(JobMetrics("study", "a"), Destination(tmp_path / "file")) as watch:
        watch.advance()


def progress_in(file: Path) -> tuple[float, float]:
    values = parse(file.read_text())
    study = (("study", "a"),)
    return values[names.STUDY_PROGRESS.name, study], values[names.STUDY_PACE.name, study]


def test_a_failed_job_is_exported_and_keeps_its_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="lost"), measured("study", "a b/c", Destination(tmp_path), silent):
        raise RuntimeError("lost")
    values = parse((tmp_path / "cxr_study_a_b_c.prom").read_text())
    assert values["cxr_job_success", (("study", "a b/c"), ("verb", "study"))] == 0
    assert values["cxr_job_duration_seconds", (("study", "a b/c"), ("verb", "study"))] >= 0


def test_metrics_are_pushed_to_the_gateway_by_job_and_study(
    gateway: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_metrics, "GATEWAY_SECONDS", 120.0)
    url, received = gateway
    with measured("study", "a", Destination(gateway=url), silent) as job:
        study_counts(job, {"finished": 6}, {})
    values = parse(received["/metrics/job/cxr_study/study/a"])
    assert values["cxr_study_trials", (("state", "finished"), ("study", "a"))] == 6


def test_a_job_does_not_fail_with_its_gateway(tmp_path: Path) -> None:
    messages: list[str] = []
    with measured("study", "a", Destination(gateway="http://127.0.0.1:9"), messages.append):
        pass
    (tmp_path / "file").touch()
    with measured("study", "a", Destination(tmp_path / "file"), messages.append):
        pass
    assert len(messages) == 2
    assert "were not delivered. Expected a push gateway at http://127.0.0.1:9." in messages[0]


def test_without_a_destination_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with measured("study", "a", Destination(), silent):
        pass
    assert list(tmp_path.iterdir()) == []


def test_options_take_precedence_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXR_METRICS_DIR", raising=False)
    monkeypatch.delenv("CXR_PUSHGATEWAY_URL", raising=False)
    assert Destination.choose() == Destination()
    monkeypatch.setenv("CXR_METRICS_DIR", "/spool")
    monkeypatch.setenv("CXR_PUSHGATEWAY_URL", "http://gateway:9091")
    assert Destination.choose() == Destination(Path("/spool"), "http://gateway:9091")
    assert Destination.choose(tmp_path, "https://other") == Destination(tmp_path, "https://other")
    with pytest.raises(ConfigError, match="URL of a push gateway"):
        Destination.choose(gateway="gateway:9091")
