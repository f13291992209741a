"""A server as in a tutorial, which `serving` compares with: FastAPI, Pillow and `model.predict`.

It has no limits, no checks and no calibration. Do not expose it to a network.
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, File
from PIL import Image

from cxr_platform.labels import CLASSES
from cxr_platform.registry.bundle import WEIGHTS, read_bundle


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the Keras weights of a bundle on loopback until interrupted; return 0."""
    import uvicorn

    parser = argparse.ArgumentParser(description="Serve a bundle as in a tutorial.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args(argv)
    uvicorn.run(plain_app(arguments.bundle), host="127.0.0.1", port=arguments.port, log_level="warning")
    return 0


def plain_app(folder: Path) -> FastAPI:
    """Return an application with `POST /v1/screen`, which takes a part `file`, and `GET /readyz`."""
    from cxr_platform.champion.export import champion_network

    bundle = read_bundle(folder)
    network = champion_network(bundle.strategy, bundle.model, folder / WEIGHTS).full
    size = bundle.preprocessing.input_size
    app = FastAPI()

    @app.get("/readyz")
    def ready() -> dict[str, bool]:
        return {"ready": True}

    @app.post("/v1/screen")
    def screen(file: bytes = File()) -> dict[str, Any]:
        image = Image.open(io.BytesIO(file)).convert("RGB").resize((size, size))
        logits = network.predict(np.asarray(image, "float32")[None] / 127.5 - 1, verbose=0)[0]
        return {"label": CLASSES[int(logits.argmax())], "model": {"version": bundle.version}}

    return app


if __name__ == "__main__":
    raise SystemExit(main())
