import json
import os
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from cxr_platform.errors import ServingError
from cxr_platform.serving.spans import ENDPOINTS, RequestSpans
from tests.serving.test_spans import PARENT, TRACE, line

otlp_json = pytest.importorskip("cxr_platform.serving.otlp_json", reason="Ray brings OpenTelemetry's SDK")


class Collector(ThreadingHTTPServer):
    """Keeps what it receives, and answers with the statuses of `answers`, then with 200."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.answers: list[int] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, dict(self.headers), json.loads(body)))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextmanager
def spans_to(collector: Collector, monkeypatch: pytest.MonkeyPatch, **variables: str) -> Iterator[RequestSpans]:
    """The spans of a server whose environment names the collector, without OpenTelemetry's own exporter."""
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    monkeypatch.setattr(otlp_json, "BACKOFF_SECONDS", 0.0)
    for name in [name for name in os.environ if name.startswith("OTEL_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name, value in {ENDPOINTS[1]: f"{collector.url}/", **variables}.items():
        monkeypatch.setenv(name, value)
    spans = RequestSpans.from_environment()
    assert spans.is_open
    yield spans
    spans.close()


def test_a_collector_receives_the_span_of_a_request(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    with spans_to(collector, monkeypatch, OTEL_EXPORTER_OTLP_HEADERS="x-api-key=a%20b") as spans:
        spans.record(line(key="ward", decision=["positive", "negative"]), f"00-{TRACE}-{PARENT}-01")
    ((path, headers, body),) = collector.received
    assert path == "/v1/traces"
    assert (headers["Content-Type"], headers["x-api-key"]) == ("application/json", "a b")
    (resource,) = body["resourceSpans"]
    (scope,) = resource["scopeSpans"]
    (span,) = scope["spans"]
    assert {"key": "service.name", "value": {"stringValue": "cxr"}} in resource["resource"]["attributes"]
    assert (span["traceId"], span["parentSpanId"], span["name"], span["kind"]) == (TRACE, PARENT, "/v1/screen", 2)
    assert int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"]) == 40_000_000
    values = {attribute["key"]: attribute["value"] for attribute in span["attributes"]}
    assert values["cxr.key"] == {"stringValue": "ward"}
    assert values["http.response.status_code"] == {"intValue": "200"}
    assert values["cxr.milliseconds.total"] == {"doubleValue": 40.0}
    assert values["cxr.decisions"]["arrayValue"]["values"][0] == {"stringValue": "positive"}


def test_every_field_is_one_of_the_protocol(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    json_format = pytest.importorskip("google.protobuf.json_format")
    with spans_to(collector, monkeypatch) as spans:
        spans.record(line(status=503, reason="overloaded"), f"00-{TRACE}-{PARENT}-01")
    body = collector.received[0][2]
    for span in body["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for name in ("traceId", "spanId", "parentSpanId"):  # OTLP has hexadecimal digits, other JSON Base64
            span[name] = b64encode(bytes.fromhex(span[name])).decode()
    request = json_format.ParseDict(body, service.ExportTraceServiceRequest())
    span = request.resource_spans[0].scope_spans[0].spans[0]
    assert (span.trace_id.hex(), span.kind, span.status.code) == (TRACE, span.SPAN_KIND_SERVER, 2)


def test_a_collector_that_is_busy_is_asked_again(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    collector.answers = [503, 429]
    with spans_to(collector, monkeypatch) as spans:
        spans.record(line())
    assert len(collector.received) == 3


@pytest.mark.parametrize("answers", [[400], [302], [503] * 3])
def test_spans_that_a_collector_does_not_take_are_a_failure(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, answers: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    collector.answers = [*answers, *answers]
    monkeypatch.setattr(otlp_json, "BACKOFF_SECONDS", 0.0)
    monkeypatch.setenv(ENDPOINTS[0], f"{collector.url}/traces")
    exporter = otlp_json.JsonSpanExporter()
    span = recorded_span()
    assert [exporter.export([span]).name for _ in range(2)] == ["FAILURE", "FAILURE"]
    assert {path for path, _, _ in collector.received} == {"/traces"}
    (message,) = caplog.messages  # once, and not for every batch
    assert "does not take the spans of requests" in message
    assert collector.url not in message
    assert exporter.export([span]).name == "SUCCESS"
    exporter.shutdown()


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("TIMEOUT", "soon", "in seconds"),
        ("TIMEOUT", "-1", "in seconds"),
        ("CERTIFICATE", "/absent.pem", "to be a file"),
    ],
)
def test_a_variable_that_cannot_be_used_is_an_error(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, wanted: str
) -> None:
    monkeypatch.setenv(ENDPOINTS[0], "http://127.0.0.1:4318")
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", value)
    with pytest.raises(ServingError, match=f"Expected OTEL_EXPORTER_OTLP_{name} {wanted}"):
        otlp_json.JsonSpanExporter()


def recorded_span() -> Any:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    spans = RequestSpans(exporter)
    spans.record(line())
    spans.close()
    return exporter.get_finished_spans()[0]
