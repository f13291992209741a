"""Screen images with the champion of the registry in this process, or with a server.

    cxr screen image.png other.dcm
    cxr screen image.png --url http://127.0.0.1:8000 --json
    cxr screen image.dcm --sr reports --heatmap
    cxr screen --wado https://pacs/dicom-web --study 1.2.840.113619.2.1 --stow https://pacs/dicom-web

For research, not for diagnosis. Nothing is stored unless --sr or --stow ask for it; with --url the images are sent to
the server.
"""

import argparse
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_platform.errors import ConfigError, ServingError
from pipelines.command import console, run_command
from pipelines.options import REGISTRY, parse_request

if TYPE_CHECKING:
    from cxr_platform.serving.client import Reply, Screen
    from cxr_platform.serving.dicom_delivery import Delivery, DicomDelivery
    from cxr_platform.serving.schema import PredictionSetAnswer

KEY_VARIABLE = "CXR_API_KEY"
LOGIN = "its login is read from CXR_DICOMWEB_LOGIN (USER:PASSWORD) or CXR_DICOMWEB_TOKEN, or the file of …_FILE"
COLUMNS = 140


@dataclass(frozen=True)
class ScreenRequest:
    """Image files or a study of a DICOMweb server, what screens them, and where answers go besides the console.

    `url` is a server that screens, else `version` of `registry` does; `json` prints lines of JSON. `sr` is a folder
    for answers as DICOM, `stow` a DICOMweb server to store them on.
    """

    files: list[Path]
    url: str | None
    registry: Path
    version: str
    json: bool
    sr: Path | None
    heatmap: bool
    stow: str | None
    wado: str | None
    study: str | None
    series: str | None


@dataclass(frozen=True)
class ScreenedImage:
    """The name of an image, its answer or problem, and what became of the documents about it, if any were asked for."""

    name: str
    reply: "Reply"
    delivery: "Delivery | None"

    @property
    def complete(self) -> bool:
        """False if there is no answer, or if not all of the documents were delivered."""
        from cxr_platform.serving.schema import ScreenAnswer

        return isinstance(self.reply, ScreenAnswer) and (self.delivery is None or self.delivery.problem is None)


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, 1 if an image has no answer or no document, 2 without a server or champion."""
    return run_command(lambda: run(parse_request(ScreenRequest, parser(), argv)))


def uid(text: str) -> str:
    """Return a UID, as the `type` of an option."""
    from cxr_platform.intake.dicom_source import check_uid

    return check_uid(text)


def parser() -> argparse.ArgumentParser:
    """Return the options of `cxr screen`."""
    parser = argparse.ArgumentParser(
        prog="cxr screen", description="Screen images with the champion of the registry, or with a server."
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="PNG, JPEG or DICOM")
    parser.add_argument("--url", help=f"URL of a server; its API key is read from {KEY_VARIABLE}")
    parser.add_argument("--registry", type=Path, default=REGISTRY, help="folder of the registry (default: registry)")
    parser.add_argument("--version", default="champion", help="version of the registry (default: champion)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON per file")
    documents = parser.add_argument_group("answers as DICOM (DICOM images only)")
    documents.add_argument(
        "--sr", type=Path, metavar="FOLDER", help="write each answer as a structured report (TID 1500) into FOLDER"
    )
    documents.add_argument(
        "--heatmap", action="store_true", help="with --sr or --stow: the heatmap too, as a Secondary Capture"
    )
    documents.add_argument("--stow", metavar="URL", help=f"store them on this DICOMweb server (STOW-RS); {LOGIN}")
    images = parser.add_argument_group("images of a DICOMweb server, in place of files")
    images.add_argument(
        "--wado", metavar="URL", help="fetch the images of --study from this DICOMweb server (WADO-RS); login as --stow"
    )
    images.add_argument("--study", metavar="UID", type=uid, help="Study Instance UID")
    images.add_argument(
        "--series", metavar="UID", type=uid, help="Series Instance UID (default: all series of the study)"
    )
    return parser


def run(request: ScreenRequest) -> int:
    """Screen the images one after the other and print the answers; return 0, or 1 if one is not complete."""
    from cxr_platform.serving.schema import ScreenAnswer

    _check(request)
    images, delivery = _images(request), _delivery(request)
    screened: list[ScreenedImage] = []
    try:
        with _client(request) as ask:
            for name, data in images:
                reply = _not_fetched(data) if isinstance(data, ServingError) else ask(data)
                screened.append(ScreenedImage(name, reply, None))
                try:
                    if delivery is not None and isinstance(reply, ScreenAnswer) and isinstance(data, bytes):
                        screened[-1] = ScreenedImage(name, reply, delivery.deliver(reply, data))
                finally:  # the answer is printed even if its documents cannot be delivered
                    if request.json:
                        _print_json(screened[-1])
    finally:  # the answers so far are printed even if a server goes away
        if screened and not request.json:
            _print_table(screened)
    return 0 if all(image.complete for image in screened) else 1


def _check(request: ScreenRequest) -> None:
    """Raise an error for options that do not go together, and for a file that cannot be read."""
    from cxr_platform.serving.client import check_readable

    if bool(request.files) == bool(request.wado):
        raise ConfigError("Expected either files, or --wado URL with --study UID.", advice="See cxr screen --help.")
    if (request.wado is None) != (request.study is None) or (request.series and not request.study):
        raise ConfigError("Expected --wado URL with --study UID, and --series UID with both only.")
    if request.heatmap and request.sr is None and request.stow is None:
        raise ConfigError(
            "Expected --sr FOLDER or --stow URL with --heatmap.", advice="They say where the heatmap goes."
        )
    for file in request.files:
        check_readable(file)


def _images(request: ScreenRequest) -> Iterator[tuple[str, bytes | ServingError]]:
    """Return the name and the bytes of each image, read when it is its turn, or why it could not be fetched."""
    from cxr_platform.serving.client import read_file

    if request.wado is None or request.study is None:
        return ((str(file), read_file(file)) for file in request.files)
    from cxr_platform.serving.dicomweb import DicomWebServer
    from cxr_platform.serving.dicomweb_login import load_login

    return DicomWebServer(request.wado, load_login(os.environ)).images(request.study, request.series)


def _not_fetched(error: ServingError) -> "Reply":
    """Return the problem of an image that its server does not return."""
    from cxr_platform.serving.schema import ProblemAnswer

    return ProblemAnswer(
        type="about:blank",  # RFC 9457: nothing but what the status says
        title=f"{error.problem} Received: {error.received}.",
        status=HTTPStatus.BAD_GATEWAY,
        detail=error.advice,
        reason="not-fetched",
        request_id=uuid.uuid4().hex,
    )


def _delivery(request: ScreenRequest) -> "DicomDelivery | None":
    if request.sr is None and request.stow is None:
        return None
    from cxr_platform.serving.dicom_delivery import DicomDelivery
    from cxr_platform.serving.dicomweb import DicomWebServer
    from cxr_platform.serving.dicomweb_login import check_one_server, load_login

    server = None
    if request.stow is not None:
        login = load_login(os.environ)
        server = DicomWebServer(request.stow, login)
        if login is not None and request.wado is not None:
            check_one_server(request.wado, request.stow)
    return DicomDelivery(request.sr, server, request.heatmap)


@contextmanager
def _client(request: ScreenRequest) -> "Iterator[Screen]":
    from cxr_platform.serving.client import local_screen, remote_screen

    if request.url:
        with remote_screen(request.url, os.environ.get(KEY_VARIABLE, ""), request.heatmap) as ask:
            yield ask
    else:
        from cxr_platform.registry.store import Registry
        from cxr_platform.serving.heatmap import HeatmapNetwork
        from cxr_platform.serving.screener import Screener

        folder, bundle = Registry(request.registry).open(request.version)
        yield local_screen(Screener(folder, bundle), HeatmapNetwork(folder, bundle) if request.heatmap else None)


def _print_json(image: ScreenedImage) -> None:
    from cxr_platform.serving.schema import ScreenAnswer

    kind = "result" if isinstance(image.reply, ScreenAnswer) else "problem"
    tree = {"file": image.name, kind: image.reply.model_dump(mode="json")}
    if image.delivery is not None:
        tree["documents"] = asdict(image.delivery)
    print(json.dumps(tree, ensure_ascii=False), flush=True)


def _classes(found: "PredictionSetAnswer") -> str:
    """Return the classes that the image may have as a sentence; an empty set does not exclude any class."""
    without = f" Without a threshold: {', '.join(found.not_stated)}." if found.not_stated else ""
    if found.labels:
        return f"Classes it may have: {', '.join(found.labels)}.{without}"
    return f"No class reaches its threshold.{without}"


def _print_table(screened: Sequence[ScreenedImage]) -> None:
    from rich.table import Table
    from rich.text import Text

    from cxr_platform.serving.schema import NOTICE, ScreenAnswer

    table = Table("File", "Decision", "Class", "Covid19 (%)", "Why")
    table.columns[0].overflow = "fold"
    table.columns[3].justify = "right"
    with_documents = any(image.delivery is not None for image in screened)
    if with_documents:
        table.add_column("Documents")
    models, meanings = {}, {}
    for image in screened:
        cells: tuple[str, ...]
        reply = image.reply
        if isinstance(reply, ScreenAnswer):
            models[reply.model.version] = reply.model
            covid = "" if reply.covid19_probability is None else f"{100 * reply.covid19_probability:.2f}"
            why = reply.reason
            if reply.prediction_set is not None:
                why += f" {_classes(reply.prediction_set)}"
                meanings[reply.model.version] = reply.prediction_set.meaning
            cells = (image.name, reply.decision, reply.label or "", covid, why)
        else:
            cells = (image.name, "no answer", "", "", f"{reply.reason}: {reply.title} {reply.detail}")
        if with_documents:
            cells = (*cells, "" if image.delivery is None else image.delivery.summary)
        table.add_row(*map(Text, cells))
    output = console(COLUMNS)
    output.print(table)
    for model in models.values():
        synthetic = "; trained on synthetic images, not valid for patients" if model.synthetic else ""
        output.print(f"Model {model.version}, {model.strategy}{synthetic}.")
        if model.version in meanings:
            output.print(f"Classes that an image may have: {meanings[model.version]}")
    output.print(NOTICE)


if __name__ == "__main__":
    raise SystemExit(main())
