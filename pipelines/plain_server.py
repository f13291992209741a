"""The server that most tutorials end with: FastAPI, Pillow and `model.predict`. What `benchmark_serving` compares with.

It has no limits, no checks and no calibration; nobody should put it on a network.
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the bundle's Keras weights on loopback until interrupted; returns 0."""
    import uvicorn

    parser = argparse.ArgumentParser(prog="python -m pipelines.plain_server", description=__doc__.split("\n")[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args(argv)
    uvicorn.run(plain_app(arguments.bundle), host="127.0.0.1", port=arguments.port, log_level="warning")
    return 0


def plain_app(folder: Path) -> "FastAPI":
    """`POST /v1/screen` with a part `file`, and `GET /readyz`."""
    import numpy as np
    from fastapi import FastAPI, File
    from PIL import Image

    from cxr_platform.champion.export import champion_network
    from cxr_platform.labels import CLASSES
    from cxr_platform.registry.bundle import WEIGHTS, read_bundle

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
