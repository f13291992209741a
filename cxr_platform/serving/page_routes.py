"""The drawn images that the page offers: a list at `/samples`, each at `/samples/NAME.png`. No model, no key.

    app.include_router(page_router())

Headers for browsers are the envelope's; only these images may be kept by a browser, as they never change.
"""

from http import HTTPStatus

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import JSONResponse

from cxr_platform.serving.samples import SAMPLES, draw_sample

KEPT = {"Cache-Control": "public, max-age=3600"}


def page_router() -> APIRouter:
    """The routes. They are no coroutines: an image takes a tenth of a second to draw, once, and is drawn in a thread."""
    router = APIRouter(include_in_schema=False)

    @router.get("/samples")
    def samples() -> Response:
        listed = [{"name": name, "title": sample.title, "file": f"{name}.png"} for name, sample in SAMPLES.items()]
        return JSONResponse({"samples": listed})

    @router.get("/samples/{name}.png")
    def sample(name: str) -> Response:
        if name not in SAMPLES:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return Response(draw_sample(name), media_type="image/png", headers=KEPT)

    return router
