"""The HTTP application: FastAPI over a `Service`. It runs under any ASGI server, Serve's replicas among them.

Bodies are read by `upload`, not by FastAPI, whose forms go to temporary files. Every answer that is none of ours in
form (FastAPI's validation, Starlette's 404) becomes problem details; nothing of a request is repeated in them.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from cxr_platform.serving import problems
from cxr_platform.serving.answers import model_answer
from cxr_platform.serving.batch_protocol import Unpacking
from cxr_platform.serving.docs import docs_page, docs_policy
from cxr_platform.serving.envelope import Envelope
from cxr_platform.serving.keys import KeyCheck
from cxr_platform.serving.page_routes import page_router
from cxr_platform.serving.problems import KINDS, MEDIA_TYPE, Problem, problem_of_status
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
from cxr_platform.serving.service import Clock, Service
from cxr_platform.serving.upload import PART, Disconnected, files_of

PAGE = Path(__file__).parent / "page"
INDEX = "index.html"
CLIENT_GONE = 499
DESCRIPTION = f"""Screens chest X-rays for signs of COVID-19 with a MobileNetV2. {NOTICE}

Images are PNG, JPEG or DICOM, up to 20 MB and 50 million pixels. Nothing of them is stored or logged, and no DICOM
attribute is looked at beyond those that say how the pixels are to be shown."""


def build_app(service: Service, keys: KeyCheck | None, page: Path = PAGE) -> FastAPI:
    """The application; without `keys` it answers clients on loopback only. `page` is left out where it is not there."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.open():
            yield

    app = FastAPI(
        title="CXR screening", version="1", description=DESCRIPTION, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.add_middleware(Envelope, keys=keys, metrics=service.metrics)
    app.add_middleware(Unpacking)
    _handle_errors(app)
    _add_screening(app, service)
    _add_facts(app, service)
    if (page / INDEX).is_file():
        _add_page(app, page)
    return app


def _add_screening(app: FastAPI, service: Service) -> None:
    limits = service.limits

    @app.post("/v1/screen", response_model=ScreenAnswer, responses=_problems(), openapi_extra=_body(many=False))
    async def screen(request: Request, explain: bool = False) -> Response:
        """Screen one image. `explain=true` adds a heatmap; it takes longer."""
        with service.admitted():
            await service.has_model()
            clock = Clock()
            with clock.stage("upload"):
                (data,) = await files_of(request.receive, request.headers, limits, most=1)
            return _json(await service.answer(data, _id(request), clock, explain))

    @app.post("/v1/screen/batch", response_model=BatchAnswer, responses=_problems(), openapi_extra=_body(many=True))
    async def screen_batch(request: Request) -> Response:
        """Screen up to 32 images, 20 MB together. Each gets a result or a problem, in the order in which it came."""
        with service.admitted():
            await service.has_model()
            clock = Clock()
            with clock.stage("upload"):
                files = await files_of(request.receive, request.headers, limits, most=limits.batch_files)
            found = await service.answers(files, _id(request), clock)
        items = [_item(index, result, _id(request)) for index, result in enumerate(found)]
        return _json(BatchAnswer(request_id=_id(request), items=items))


def _add_facts(app: FastAPI, service: Service) -> None:
    @app.get("/v1/model", response_model=ModelAnswer, responses=_problems(401, 403, 503))
    async def model() -> Response:
        """Which model answers, where it comes from, and how good it was on images that it had not seen."""
        return _json(model_answer(service.champion.current[1].bundle))

    @app.get("/healthz", response_model=Alive)
    async def healthz() -> Response:
        """Liveness: the process answers."""
        return _json(Alive())

    @app.get("/readyz", response_model=Ready, responses=_problems(503))
    async def readyz() -> Response:
        """Readiness: a model is loaded and warm. 503 says why there is none yet; the first one is taken up at once."""
        (version, _), status = service.champion.current, service.champion.status
        return _json(
            Ready(
                version=version,
                pending=status.pending,
                refused=list(status.refused),
                registry_readable=status.registry_readable,
            )
        )

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(
            docs_page(app.openapi()), media_type="text/html", headers={"Content-Security-Policy": docs_policy()}
        )

    @app.get("/problems/{reason}", include_in_schema=False)
    async def problem(reason: str) -> Response:
        if reason not in KINDS:
            raise Problem("no-such-page")
        kind = KINDS[reason]
        return JSONResponse({"reason": reason, "status": kind.status, "title": kind.title, "advice": kind.advice})


def _add_page(app: FastAPI, page: Path) -> None:
    """The index at /, what it loads at /page/, the drawn images at /samples."""
    app.include_router(page_router())
    app.mount("/page", StaticFiles(directory=page))

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return FileResponse(page / INDEX)


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def _(request: Request, problem: Problem) -> Response:
        return _answer(problem, request)

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> Response:
        return _answer(problem_of_status(error.status_code), request)

    @app.exception_handler(RequestValidationError)
    async def _(request: Request, _error: RequestValidationError) -> Response:
        return _answer(Problem("bad-parameter"), request)

    @app.exception_handler(Disconnected)
    async def _(_request: Request, _error: Disconnected) -> Response:
        return Response(status_code=CLIENT_GONE)


def _answer(problem: Problem, request: Request) -> Response:
    return Response(problem.body(_id(request)), problem.status, problem.headers, MEDIA_TYPE)


def _item(index: int, result: ScreenAnswer | Problem, request_id: str) -> BatchItem:
    if isinstance(result, Problem):
        return BatchItem(index=index, problem=ProblemAnswer(**result.details(request_id)))
    return BatchItem(index=index, result=result)


def _id(request: Request) -> str:
    identity: str = request.state.request_id
    return identity


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the OpenAPI document says of problems: those of `statuses`, or of every status that an image can lead to."""
    by_status: dict[int | str, list[str]] = {}
    for reason, kind in problems.KINDS.items():
        if reason not in ("no-such-page", "wrong-method") and (not statuses or kind.status in statuses):
            by_status.setdefault(int(kind.status), []).append(f"`{reason}`: {kind.title}")
    return {
        status: {"model": ProblemAnswer, "description": " ".join(lines), "content": {MEDIA_TYPE: {}}}
        for status, lines in by_status.items()
    }


def _body(many: bool) -> dict[str, Any]:
    file = {"type": "string", "format": "binary"}
    shape = {"type": "array", "items": file, "minItems": 1, "maxItems": 32} if many else file
    schema = {"type": "object", "required": [PART], "properties": {PART: shape}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
