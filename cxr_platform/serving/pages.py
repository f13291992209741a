"""The HTML pages: the page at / with its sample images, and /docs from the OpenAPI document.

FastAPI's own /docs loads scripts from other servers; this one loads nothing. The samples are drawn phantoms of a seed
that no collection is drawn with: no X-ray is shipped.
"""

import base64
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter, FastAPI, HTTPException, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment
from PIL import Image

PAGE = Path(__file__).parent / "page"
INDEX = "index.html"
SAMPLE_SEED = 20_040_338
SAMPLE_HEIGHT = 360
SAMPLE_HEADERS = {"Cache-Control": "public, max-age=3600"}
"""Samples never change and may be cached by a browser, unlike everything else."""


@dataclass(frozen=True)
class Sample:
    """A phantom with the signs of `label`; `flaw` makes it not screenable."""

    label: str
    title: str
    flaw: Literal["low-contrast", "partial"] | None = None


SAMPLES: Mapping[str, Sample] = MappingProxyType(
    {
        "covid19": Sample("Covid19", "Covid-19"),
        "pneumonia": Sample("Pneumonia", "Pneumonia"),
        "effusion": Sample("Effusion", "Effusion"),
        "normal": Sample("Normal", "Normal"),
        "low-contrast": Sample("Normal", "Low contrast", "low-contrast"),
        "partial": Sample("Edema", "Cut off", "partial"),
    }
)
"""The samples by name, in the order of the page."""


@lru_cache(maxsize=len(SAMPLES))
def draw_sample(name: str) -> bytes:
    """Return a sample as an 8-bit grey PNG, always the same bytes; raise `KeyError` for an unknown name."""
    from cxr_platform.intake.phantoms.files import draw_flaw  # imports SciPy, which replicas do not need otherwise
    from cxr_platform.intake.phantoms.image import ImageKey, draw_image
    from cxr_platform.intake.phantoms.plan import PlannedFlaw

    sample = SAMPLES[name]
    key = ImageKey(SAMPLE_SEED, sample.label, list(SAMPLES).index(name), 0)
    if sample.flaw is not None:
        return draw_flaw(PlannedFlaw(sample.flaw, key, name, name), SAMPLE_HEIGHT)[0]
    levels = np.rint(255 * np.clip(draw_image(key, SAMPLE_HEIGHT).picture, 0, 1)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    return buffer.getvalue()


def samples_router() -> APIRouter:
    """Return the routes /samples and /samples/NAME.png. They run in threads, as drawing takes 0.1 s once."""
    router = APIRouter(include_in_schema=False)

    @router.get("/samples")
    def samples() -> Response:
        listed = [{"name": name, "title": sample.title, "file": f"{name}.png"} for name, sample in SAMPLES.items()]
        return JSONResponse({"samples": listed})

    @router.get("/samples/{name}.png")
    def sample(name: str) -> Response:
        if name not in SAMPLES:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return Response(draw_sample(name), media_type="image/png", headers=SAMPLE_HEADERS)

    return router


def add_pages(app: FastAPI, folder: Path) -> None:
    """Add /docs to `app`, and the page in `folder` at / with its files at /page/ and the samples, if it is there."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        headers = {"Content-Security-Policy": docs_policy()}
        return Response(docs_page(app.openapi()), media_type="text/html", headers=headers)

    if (folder / INDEX).is_file():
        app.include_router(samples_router())
        app.mount("/page", StaticFiles(directory=folder))

        @app.get("/", include_in_schema=False)
        async def index() -> Response:
            return FileResponse(folder / INDEX)


DOCS_STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
body { color: #111; background: #fff }
pre { background: #f2f2f2; padding: 1rem; overflow-x: auto; white-space: pre-wrap }
h2 code { font-size: 1.1rem } dt { font-weight: bold } section { border-top: 1px solid #888; margin-top: 2rem }
"""

DOCS_TEMPLATE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}: HTTP API</title><style>{{ style | safe }}</style></head><body><main>
<h1>{{ title }}: HTTP API</h1>
{% for paragraph in description.split("\\n\\n") %}
<p>{{ paragraph }}</p>
{% endfor %}
<p>If the server has API keys, requests to /v1/ need the header <code>Authorization: Bearer KEY</code>.
Errors are problem details (<a href="https://www.rfc-editor.org/rfc/rfc9457">RFC 9457</a>).
Machine-readable: <a href="openapi.json">openapi.json</a>.</p>
{% for operation in operations %}
<section aria-labelledby="{{ operation.id }}">
<h2 id="{{ operation.id }}"><code>{{ operation.method }} {{ operation.path }}</code></h2>
<p>{{ operation.description }}</p>
{% if operation.curl %}
<pre>{{ operation.curl }}</pre>
{% endif %}
<dl>
{% for status, text in operation.answers %}
<dt>{{ status }}</dt><dd>{{ text }}</dd>
{% endfor %}
</dl>
{% for example in operation.examples %}
<details><summary>Example{{ " " ~ loop.index if loop.length > 1 }}</summary><pre>{{ example }}</pre></details>
{% endfor %}
</section>
{% endfor %}
</main></body></html>
""")


def docs_page(openapi: Mapping[str, Any]) -> str:
    """Return an OpenAPI document as HTML, with its examples."""
    operations = [
        _operation(path, method, operation, openapi["components"]["schemas"])
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]
    info = openapi["info"]
    return DOCS_TEMPLATE.render(
        title=info["title"], description=info["description"], style=DOCS_STYLE, operations=operations
    )


def docs_policy() -> str:
    """Return the content security policy of /docs: its own style and nothing else."""
    digest = base64.b64encode(hashlib.sha256(DOCS_STYLE.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _operation(path: str, method: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> dict[str, Any]:
    answers = operation["responses"]
    schema = answers["200"]["content"]["application/json"]["schema"].get("$ref", "").rpartition("/")[2]
    second_file = " -F file=@another.dcm" if path.endswith("batch") else ""
    curl = f"curl -F file=@image.png{second_file} http://127.0.0.1:8000{path}"
    return {
        "id": f"{method}{path.replace('/', '-')}",
        "method": method.upper(),
        "path": path,
        "description": operation.get("description", ""),
        "curl": curl if "requestBody" in operation else "",
        "answers": [(status, answer["description"]) for status, answer in answers.items() if status != "200"],
        "examples": [json.dumps(example, indent=2) for example in schemas.get(schema, {}).get("examples", [])],
    }
