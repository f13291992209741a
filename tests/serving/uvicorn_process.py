"""Serve the application in its own process, so that its memory can be measured; prints the port.

python -m tests.serving.uvicorn_process REGISTRY UPLOAD_SECONDS
"""

import asyncio
import sys
from pathlib import Path

import uvicorn

from cxr_platform.registry.store import Registry
from cxr_platform.serving.app import build_app
from cxr_platform.serving.champion_watcher import ChampionWatcher
from cxr_platform.serving.dicom_decoder import DicomDecoder
from cxr_platform.serving.screener import Screener
from cxr_platform.serving.service import Service
from cxr_platform.serving.upload import Limits


async def main(registry: Path, upload_seconds: float) -> None:
    champion = ChampionWatcher(Registry(registry), lambda folder, bundle: Screener(folder, bundle, threads=1))
    app = build_app(Service(champion, decoder=DicomDecoder(), limits=Limits(upload_seconds=upload_seconds)), None)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await serving


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
