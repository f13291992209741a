"""The HTTP application: FastAPI routes over a `Service`, for any ASGI server, Serve's replicas among them.

Bodies are read by `upload`, because FastAPI's forms write to temporary files. All errors become problem details, those
of FastAPI (validation) and Starlette (404) too; no answer repeats content of a request. Every answer has the headers
below, and states for the proxy's request log what became of the request.
"""

import re
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cxr_platform.serving.access import check_access
from cxr_platform.serving.answers import model_answer
from cxr_platform.serving.api_keys import KeyCheck
from cxr_platform.serving.batch_protocol import BatchSplitter
from cxr_platform.serving.pages import PAGE, add_pages
from cxr_platform.serving.problems import (
    MEDIA_TYPE,
    PROBLEM_TYPES,
    Problem,
    log_internal_error,
    problem_for_status,
    problem_response,
)
from cxr_platform.serving.request_log import milliseconds, outcome_header
from cxr_platform.serving.schema import (
    NOTICE,
    Alive,
    BatchAnswer,
    BatchItem,
    ModelAnswer,
    ProblemAnswer,
    Ready,
    ScreenAnswer,
)
from cxr_platform.serving.service import Service, StageTimer
from cxr_platform.serving.upload import FIELD, Disconnected, Limits, read_files

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page loads its own files only; blob: is the user's image, data: are the images of an answer."""

HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""Headers of every answer that does not set them itself."""

REQUEST_ID = re.compile(rb"[0-9a-f]{32}")
"""A request id as the proxy middleware makes it; any other is replaced."""

CLIENT_CLOSED_REQUEST = 499
DICOM, DICOM_PARTS = "application/dicom", "multipart/related"
DESCRIPTION = f"""Screens chest X-rays for signs of COVID-19 with a MobileNetV2. {NOTICE}

Images are PNG, JPEG or DICOM, up to 20 MB and 50 million pixels. The server logs nothing of them and stores nothing; on
a cluster whose memory is full Ray may keep one above 4 MB on a disk until it is answered. Of DICOM only the attributes
are read that define how the pixels are displayed; for a structured report also those of patient and study, which the
report repeats. Its operator may log the decisions."""


def build_app(service: Service, keys: KeyCheck | None, page: Path = PAGE) -> FastAPI:
    """Return the application; without `keys` it answers clients on loopback only. `page` is the folder of the page."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="CXR screening",
        version="1",
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a client that follows a redirect sends its image twice, another one sees no problem
    )
    app.add_middleware(_AroundRoutes, keys=keys)
    _add_error_handlers(app)
    _add_screening(app, service)
    _add_status(app, service)
    add_pages(app, page)
    return app


def _add_screening(app: FastAPI, service: Service) -> None:
    limits = service.limits

    @app.post(
        "/v1/screen",
        response_model=ScreenAnswer,
        responses={200: {"content": {DICOM: _binary(), DICOM_PARTS: _binary()}}, **_problems()},
        openapi_extra=_body(max_files=1),
    )
    async def screen(request: Request, explain: bool = False, format: Literal["json", "sr"] = "json") -> Response:
        """Screen one image. `explain=true` adds a heatmap, which takes longer.

        `format=sr` answers a DICOM image with a DICOM structured report (`application/dicom`); with `explain=true` too
        with the report and, if there is one, the heatmap as a Secondary Capture (`multipart/related`, as WADO-RS).
        """
        with service.admit():
            await service.wait_for_model()
            timer = StageTimer()
            with timer.stage("upload"):
                (data,) = await read_files(request.receive, request.headers, limits, max_files=1)
            files: list[bytes] = []
            if format == "sr":
                answer, files = await service.screen_as_dicom(data, _request_id(request), timer, explain)
            else:
                answer = await service.screen(data, _request_id(request), timer, explain)
            stages = answer.timings_ms.model_dump(exclude_none=True, exclude={"total"})
            logged = {"decision": answer.decision, "version": answer.model.version, "milliseconds": stages}
            request.state.outcome.update(logged)
            if not files:
                return _json(answer)
            return _dicom_parts(files) if explain else Response(files[0], media_type=DICOM)

    @app.post(
        "/v1/screen/batch",
        response_model=BatchAnswer,
        responses=_problems(),
        openapi_extra=_body(max_files=Limits().batch_files),
    )
    async def screen_batch(request: Request) -> Response:
        """Screen up to 32 images, 20 MB in total. Each gets a result or a problem, in the order of the request."""
        with service.admit():
            await service.wait_for_model()
            timer, request_id = StageTimer(), _request_id(request)
            with timer.stage("upload"):
                files = await read_files(request.receive, request.headers, limits, limits.batch_files)
            results = await service.screen_batch(files, request_id, timer)
        versions = [result.model.version for result in results if not isinstance(result, Problem)]
        decisions = [result.reason if isinstance(result, Problem) else result.decision for result in results]
        request.state.outcome.update(decision=decisions, version=versions[0] if versions else None)
        items = [
            BatchItem(index=index, problem=ProblemAnswer(**result.details(request_id)))
            if isinstance(result, Problem)
            else BatchItem(index=index, result=result)
            for index, result in enumerate(results)
        ]
        return _json(BatchAnswer(request_id=request_id, items=items))


def _add_status(app: FastAPI, service: Service) -> None:
    @app.get("/v1/model", response_model=ModelAnswer, responses=_problems(401, 403, 503))
    async def model() -> Response:
        """Describe the model that answers: its origin, and its out-of-fold performance."""
        return _json(model_answer(service.champion.current[1].bundle))

    @app.get("/healthz", response_model=Alive)
    async def healthz() -> Response:
        """Liveness: the process answers."""
        return _json(Alive())

    @app.get("/readyz", response_model=Ready, responses=_problems(503))
    async def readyz() -> Response:
        """Readiness: a model is loaded and warm. 503 gives the reason if there is none."""
        (version, _), status = service.champion.current, service.champion.status
        return _json(
            Ready(
                version=version,
                pending=status.pending,
                refused=list(status.refused),
                registry_readable=status.registry_readable,
            )
        )

    @app.get("/problems/{reason}", include_in_schema=False)
    async def problem(reason: str) -> Response:
        if reason not in PROBLEM_TYPES:
            raise Problem("not-found")
        kind = PROBLEM_TYPES[reason]
        return JSONResponse({"reason": reason, "status": kind.status, "title": kind.title, "detail": kind.detail})


def _add_error_handlers(app: FastAPI) -> None:
    """Turn the exceptions of Starlette and FastAPI into problems, which `_AroundRoutes` answers."""

    @app.exception_handler(HTTPException)
    async def _(_request: Request, error: HTTPException) -> Response:
        raise problem_for_status(error.status_code, (error.headers or {}).get("Allow", ""))

    @app.exception_handler(RequestValidationError)
    async def _(_request: Request, _error: RequestValidationError) -> Response:
        raise Problem("bad-parameter")

    @app.exception_handler(Disconnected)
    async def _(_request: Request, _error: Disconnected) -> Response:
        return Response(status_code=CLIENT_CLOSED_REQUEST)


class _AroundRoutes:
    """ASGI middleware around the routes: request id, access check, headers of answers, problems.

    The requests of a batch pass it one by one. A route adds to `request.state.outcome` what the request log says of its
    request.
    """

    def __init__(self, app: ASGIApp, keys: KeyCheck | None) -> None:
        self._app, self._keys = app, keys
        self._requests = BatchSplitter(self._answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # no route answers it
            await send({"type": "websocket.close"})
        elif scope["type"] == "http":
            await self._requests(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        request_id = given.decode() if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        began, outcome, has_begun = time.perf_counter(), dict[str, Any](), False
        scope.setdefault("state", {}).update(request_id=request_id, outcome=outcome)
        if scope["method"] == "HEAD":  # FastAPI would answer 405; uvicorn has the scope itself, and sends no body
            scope = {**scope, "method": "GET"}

        async def answer(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                stages = {**outcome.pop("milliseconds", {}), "replica": milliseconds(time.perf_counter() - began)}
                added = {**HEADERS, "x-request-id": request_id}
                present = {name.lower() for name, _ in message["headers"]}
                missing = [(n.encode(), v.encode()) for n, v in added.items() if n.encode() not in present]
                stated = outcome_header(**outcome, milliseconds=stages)
                message = {**message, "headers": [*message["headers"], *missing, stated]}
            await send(message)

        try:
            check_access(self._keys, scope)
            await self._app(scope, receive, answer)
        except Exception as error:
            problem = error if isinstance(error, Problem) else Problem("internal-error")
            if problem is not error:
                log_internal_error(request_id, error)
            if not has_begun:  # an answer that has begun cannot be replaced
                outcome["reason"] = problem.reason
                await problem_response(problem, request_id)(scope, receive, answer)


def _request_id(request: Request) -> str:
    return str(request.state.request_id)


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")


def _dicom_parts(files: Sequence[bytes]) -> Response:
    """Return DICOM files as WADO-RS does (PS3.18, section 8.6.1.2), also if there is only one."""
    boundary = uuid.uuid4().hex
    head = f"--{boundary}\r\nContent-Type: {DICOM}\r\n\r\n".encode()
    body = b"".join(head + file + b"\r\n" for file in files) + f"--{boundary}--\r\n".encode()
    return Response(body, media_type=f'{DICOM_PARTS}; type="{DICOM}"; boundary={boundary}')


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the problems of `statuses` for the OpenAPI document; without any, all that an upload can lead to."""
    by_status: dict[int | str, list[str]] = {}
    for reason, kind in PROBLEM_TYPES.items():
        if reason not in ("not-found", "wrong-method") and (not statuses or kind.status in statuses):
            by_status.setdefault(kind.status, []).append(f"`{reason}`: {kind.title}")
    return {
        status: {"model": ProblemAnswer, "description": " ".join(lines), "content": {MEDIA_TYPE: {}}}
        for status, lines in by_status.items()
    }


def _binary() -> dict[str, Any]:
    return {"schema": {"type": "string", "format": "binary"}}


def _body(max_files: int) -> dict[str, Any]:
    """Return the multipart body for the OpenAPI document."""
    file: dict[str, Any] = {"type": "string", "format": "binary"}
    if max_files > 1:
        file = {"type": "array", "items": file, "minItems": 1, "maxItems": max_files}
    schema = {"type": "object", "required": [FIELD], "properties": {FIELD: file}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
