"""A span for each request, sent to an OpenTelemetry collector where the environment names one.

OpenTelemetry's own variables configure it: `OTEL_EXPORTER_OTLP_ENDPOINT` (or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`)
turns it on, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME` and the others have their usual meaning
(https://opentelemetry.io/docs/specs/otel/protocol/exporter/). A span is a child of the client's `traceparent` and holds
what the request's line in the log holds: no file name, header or pixel.
"""

import os
from typing import TYPE_CHECKING, Any

from cxr_platform.serving.request_log import RequestLine

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
SERVICE = "cxr"
SERVER_ERROR = 500


class RequestSpans:
    """Sends spans in batches from a thread; without an exporter it does nothing."""

    def __init__(self, exporter: "SpanExporter | None" = None) -> None:
        self._provider: Any = None  # a TracerProvider, imported where it is needed
        if exporter is not None:
            from opentelemetry.sdk.resources import SERVICE_NAME, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            named = "OTEL_SERVICE_NAME" in os.environ or SERVICE_NAME in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
            self._provider = TracerProvider(resource=Resource.create({} if named else {SERVICE_NAME: SERVICE}))
            self._provider.add_span_processor(BatchSpanProcessor(exporter))

    @classmethod
    def from_environment(cls) -> "RequestSpans":
        """Return spans for the collector of the environment, if it names one.

        Those of `otlp_json` where OpenTelemetry's own exporter is not installed.
        """
        off = os.environ.get("OTEL_SDK_DISABLED") == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none"
        if off or not any(os.environ.get(name) for name in ENDPOINTS):
            return cls()
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ImportError:
            from cxr_platform.serving.otlp_json import JsonSpanExporter

            return cls(JsonSpanExporter())
        return cls(OTLPSpanExporter())

    @property
    def is_open(self) -> bool:
        """True if there is an exporter for spans."""
        return self._provider is not None

    def record(self, line: RequestLine, traceparent: str | None = None) -> None:
        """Send the span of a request from its line in the log; it ends at the time of the line."""
        if self._provider is None:
            return
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract({"traceparent": traceparent} if traceparent else {})
        end = round(1e9 * line.time.timestamp())
        begin = end - round(1e6 * line.milliseconds["total"])
        span = self._provider.get_tracer("cxr_platform").start_span(
            line.route, parent, SpanKind.SERVER, attributes=_attributes(line), start_time=begin
        )
        if line.status >= SERVER_ERROR:
            span.set_status(Status(StatusCode.ERROR, line.reason))
        span.end(end)

    def close(self) -> None:
        """Send what is waiting, and end the thread."""
        if self._provider is not None:
            self._provider.shutdown()


def _attributes(line: RequestLine) -> dict[str, Any]:
    decisions = [line.decision] if isinstance(line.decision, str) else line.decision
    values: dict[str, Any] = {
        "http.route": line.route,
        "http.response.status_code": line.status,
        "cxr.request_id": line.request_id,
        "cxr.key": line.key,
        "cxr.reason": line.reason,
        "cxr.decisions": decisions,
        "cxr.version": line.version,
    }
    stages = {f"cxr.milliseconds.{stage}": duration for stage, duration in line.milliseconds.items()}
    return {name: value for name, value in {**values, **stages}.items() if value is not None}
