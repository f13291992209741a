"""`/docs`: the OpenAPI document as a page. FastAPI's own loads its parts from other servers."""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment

STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
body { color: #111; background: #fff }
pre { background: #f2f2f2; padding: 1rem; overflow-x: auto; white-space: pre-wrap }
h2 code { font-size: 1.1rem } dt { font-weight: bold } section { border-top: 1px solid #888; margin-top: 2rem }
"""

TEMPLATE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}: addresses</title><style>{{ style | safe }}</style></head><body><main>
<h1>{{ title }}</h1>
{% for paragraph in description.split("\\n\\n") %}
<p>{{ paragraph }}</p>
{% endfor %}
<p>Where the server has API keys, addresses under /v1/ want <code>Authorization: Bearer KEY</code>.
Problems are <a href="https://www.rfc-editor.org/rfc/rfc9457">RFC 9457</a> problem details.
For programs: <a href="openapi.json">openapi.json</a>.</p>
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
    """The page of an OpenAPI document, with its examples."""
    operations = [
        _operation(path, method, operation, openapi["components"]["schemas"])
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]
    info = openapi["info"]
    return TEMPLATE.render(title=info["title"], description=info["description"], style=STYLE, operations=operations)


def docs_policy() -> str:
    """The content security policy that lets the page have its style and nothing else."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _operation(path: str, method: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> dict[str, Any]:
    answers = operation["responses"]
    schema = answers["200"]["content"]["application/json"]["schema"].get("$ref", "").rpartition("/")[2]
    examples = schemas.get(schema, {}).get("examples", [])
    return {
        "id": f"{method}{path.replace('/', '-')}",
        "method": method.upper(),
        "path": path,
        "description": operation.get("description", ""),
        "curl": _curl(path) if "requestBody" in operation else "",
        "answers": [(status, answer["description"]) for status, answer in answers.items() if status != "200"],
        "examples": [json.dumps(example, indent=2) for example in examples],
    }


def _curl(path: str) -> str:
    more = " -F file=@another.dcm" if path.endswith("batch") else ""
    return f"curl -F file=@image.png{more} http://127.0.0.1:8000{path}"
