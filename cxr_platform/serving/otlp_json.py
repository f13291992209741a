"""Send spans to an OpenTelemetry collector as JSON, where OpenTelemetry's own exporter cannot be installed.

That exporter needs a newer Protocol Buffers than TensorFlow 2.16 does. The encoding is OTLP's own for HTTP: names of
the Protocol Buffers in lowerCamelCase, ids in hexadecimal, 64-bit integers as text
(https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding).
"""

import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import requests
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from cxr_platform.errors import ServingError

PREFIX = "OTEL_EXPORTER_OTLP_"
RETRIED = (429, 502, 503, 504)
"""Statuses after which a collector may take the same spans later."""
RETRIES, BACKOFF_SECONDS, LONGEST_WAIT_SECONDS = 2, 1.0, 5
TIMEOUT_SECONDS = 10.0

log = logging.getLogger(__name__)


class JsonSpanExporter(SpanExporter):
    """Posts spans to the collector that OpenTelemetry's variables name, with their headers, certificate and timeout.

    The timeout is in seconds, as in OpenTelemetry's exporter for Python.
    """

    def __init__(self) -> None:
        """Read the variables; raise `ServingError` for a timeout that is none, and a certificate that is not there."""
        traces = os.environ.get(f"{PREFIX}TRACES_ENDPOINT")
        self._url = traces or f"{os.environ[f'{PREFIX}ENDPOINT'].rstrip('/')}/v1/traces"
        self._timeout = _timeout(_setting("TIMEOUT"))
        self._verify = _certificate(_setting("CERTIFICATE"))
        self._session = requests.Session()
        self._session.auth = _unchanged  # or an entry of .netrc would replace a header of the variables
        self._session.headers.update(_headers(_setting("HEADERS") or ""))
        self._taken = True
        retry = Retry(
            RETRIES,
            backoff_factor=BACKOFF_SECONDS,
            retry_after_max=LONGEST_WAIT_SECONDS,
            status_forcelist=RETRIED,
            allowed_methods=None,
        )
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry))

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Post the spans; they are lost if the collector does not take them after `RETRIES` repetitions.

        The first loss after a success is logged, without address, headers or spans.
        """
        try:
            answer = self._session.post(
                self._url, json=encoded(spans), timeout=self._timeout, verify=self._verify, allow_redirects=False
            )
            taken, why = 200 <= answer.status_code < 300, f"status {answer.status_code}"
        except (requests.RequestException, OSError, ValueError) as error:
            taken, why = False, type(error).__name__
        if self._taken and not taken:
            log.warning("The OpenTelemetry collector does not take the spans of requests (%s); they are lost.", why)
        self._taken = taken
        return SpanExportResult.SUCCESS if taken else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Close the connections."""
        self._session.close()


def encoded(spans: Sequence[ReadableSpan]) -> dict[str, Any]:
    """Return an `ExportTraceServiceRequest` of spans of one tracer as plain values."""
    resource = _attributes(spans[0].resource.attributes)
    scope = spans[0].instrumentation_scope
    of_scope = {"scope": {"name": scope.name if scope else ""}, "spans": [_span(span) for span in spans]}
    return {"resourceSpans": [{"resource": {"attributes": resource}, "scopeSpans": [of_scope]}]}


def _span(span: ReadableSpan) -> dict[str, Any]:
    context = span.get_span_context()
    assert context is not None, "a span that has ended has one"
    found: dict[str, Any] = {
        "traceId": f"{context.trace_id:032x}",
        "spanId": f"{context.span_id:016x}",
        "name": span.name,
        "kind": span.kind.value + 1,  # 0 is "unspecified" in OTLP
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": _attributes(span.attributes or {}),
        "status": {"code": span.status.status_code.value, "message": span.status.description or ""},
    }
    if span.parent is not None:
        found["parentSpanId"] = f"{span.parent.span_id:016x}"
    return found


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, str):
        return {"stringValue": value}
    return {"arrayValue": {"values": [_value(item) for item in value]}}


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _timeout(stated: str | None) -> float:
    try:
        seconds = TIMEOUT_SECONDS if stated is None else float(stated)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ServingError(f"Expected {PREFIX}TIMEOUT in seconds.", received=repr(stated))
    return seconds


def _certificate(stated: str | None) -> str | bool:
    """Return the file of certificates to trust, True for those of the system."""
    if stated is not None and not Path(stated).is_file():
        raise ServingError(f"Expected {PREFIX}CERTIFICATE to be a file.", received=stated)
    return stated or True


def _setting(name: str) -> str | None:
    """Return the variable of that name for traces, or the one for all signals."""
    return os.environ.get(f"{PREFIX}TRACES_{name}") or os.environ.get(f"{PREFIX}{name}")


def _headers(text: str) -> dict[str, str]:
    """Return the headers in `name=value,name=value`, whose values may be percent-encoded."""
    pairs = (pair.partition("=") for pair in text.split(",") if "=" in pair)
    return {name.strip(): unquote(value.strip()) for name, _, value in pairs}
