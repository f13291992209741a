from datetime import datetime, timezone

import pytest

from cxr_platform.serving.request_log import RequestLine
from cxr_platform.serving.spans import ENDPOINTS, RequestSpans

sdk = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter", reason="Ray brings it")
TIME = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def line(**changes: object) -> RequestLine:
    values: dict[str, object] = {"time": TIME, "request_id": "abc", "route": "/v1/screen", "status": 200}
    return RequestLine.model_validate(values | {"milliseconds": {"decode": 10.0, "total": 40.0}} | changes)


def recorded(request: RequestLine, traceparent: str | None = None):
    exporter = sdk.InMemorySpanExporter()
    spans = RequestSpans(exporter)
    spans.record(request, traceparent)
    spans.close()
    (span,) = exporter.get_finished_spans()
    return span


def test_a_span_has_the_duration_and_the_values_of_the_line() -> None:
    span = recorded(line(key="ward", decision=["positive", "negative"], version="v2"))
    assert span.name == "/v1/screen"
    assert span.end_time == round(1e9 * TIME.timestamp())
    assert span.end_time - span.start_time == 40_000_000
    assert dict(span.attributes) == {
        "http.route": "/v1/screen",
        "http.response.status_code": 200,
        "cxr.request_id": "abc",
        "cxr.key": "ward",
        "cxr.decisions": ("positive", "negative"),
        "cxr.version": "v2",
        "cxr.milliseconds.decode": 10.0,
        "cxr.milliseconds.total": 40.0,
    }
    assert span.resource.attributes["service.name"] == "cxr"


def test_a_span_is_a_child_of_the_clients_trace() -> None:
    span = recorded(line(decision="positive"), f"00-{TRACE}-{PARENT}-01")
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT
    assert recorded(line()).parent is None
    assert recorded(line(), "not a traceparent").parent is None


@pytest.mark.parametrize(("status", "error"), [(200, False), (422, False), (503, True)])
def test_only_errors_of_the_server_are_errors(status: int, error: bool) -> None:
    span = recorded(line(status=status, reason="overloaded"))
    assert (span.status.status_code.name == "ERROR") is error


def test_a_client_that_does_not_sample_is_respected() -> None:
    exporter = sdk.InMemorySpanExporter()
    spans = RequestSpans(exporter)
    spans.record(line(), f"00-{TRACE}-{PARENT}-00")
    spans.close()
    assert exporter.get_finished_spans() == ()


def test_without_an_endpoint_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    spans = RequestSpans.from_environment()
    spans.record(line())
    spans.close()


@pytest.mark.parametrize(("name", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")])
def test_spans_that_are_switched_off_need_no_exporter(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINTS[1], "http://127.0.0.1:4318")
    monkeypatch.setenv(name, value)
    assert not RequestSpans.from_environment().is_open


@pytest.mark.parametrize(
    ("variable", "value"), [("OTEL_SERVICE_NAME", "ward"), ("OTEL_RESOURCE_ATTRIBUTES", "service.name=ward")]
)
def test_the_service_has_the_name_of_the_environment(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert recorded(line()).resource.attributes["service.name"] == "ward"
