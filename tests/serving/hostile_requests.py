"""Seeded hostile requests: truncated, mutated, oversized, of other formats, with wrong headers."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from tests.intake.files import dataset, dicom, jpeg, png, scan_bomb
from tests.serving.asgi_client import MULTIPART, multipart
from tests.serving.builders import image

OTHER_FORMATS = (
    b"<!doctype html><script>alert(1)</script>",
    b"%PDF-1.7\n",
    b"GIF89a\x01\x00\x01\x00\x00\x00\x00;",
    b"BM" + bytes(60),
    b"II*\x00" + bytes(60),
    b"RIFF\x00\x00\x00\x00WEBPVP8 " + bytes(60),
    b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    b"\x7fELF" + bytes(60),
    b"version https://git-lfs.github.com/spec/v1\n",
    "naïve – text".encode(),
)


@dataclass(frozen=True)
class Hostile:
    """`kind` names what is wrong; `length` is the Content-Length, the true one if `None`."""

    kind: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = tuple(MULTIPART.items())
    path: str = "/v1/screen"
    length: int | None = None


def hostile(count: int, seed: int) -> Iterator[Hostile]:
    """Yield `count` requests, all kinds in turn."""
    rng = np.random.default_rng(seed)
    kinds = (_truncated, _mutated, _mutated, _header_only, _other, _odd_dicom, _odd_request, _batch, _many_scans)
    for number in range(count):
        yield kinds[number % len(kinds)](rng)


def png_header(width: int, height: int, depth: int = 8, data: bytes = b"") -> bytes:
    """Return a PNG that declares a size and contains `data`, compressed."""
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(data)),
        (b"IEND", b""),
    )
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _one(kind: str, data: bytes) -> Hostile:
    return Hostile(kind, multipart([data]))


def _sound(rng: np.random.Generator) -> bytes:
    values = image(int(rng.integers(1000)), 120)
    return (png, jpeg, dicom)[rng.integers(3)](values)  # type: ignore[operator]


def _truncated(rng: np.random.Generator) -> Hostile:
    data = _sound(rng)
    if rng.random() < 0.3:
        body = multipart([data])
        return Hostile("truncated multipart", body[: rng.integers(len(body))])
    return _one("truncated", data[: rng.integers(len(data))])


def _mutated(rng: np.random.Generator) -> Hostile:
    data = bytearray(_sound(rng))
    reach = len(data) if rng.random() < 0.5 else min(400, len(data))  # most parsers fail in the headers
    for place in rng.integers(0, reach, rng.integers(1, 30)):
        data[place] = rng.integers(256)
    return _one("mutated", bytes(data))


def _header_only(rng: np.random.Generator) -> Hostile:
    width, height = ((30_000, 30_000), (0, 0), (0, 200), (2**31 - 1, 1), (7000, 7000))[rng.integers(5)]
    return _one(f"{width} × {height}", png_header(width, height, data=bytes(rng.integers(1, 10**6))))


@cache
def _many_scans(_: np.random.Generator) -> Hostile:
    """A JPEG of 200 KB that takes libjpeg half a minute."""
    return _one("very many scans", scan_bomb(7000, 1000))


def _other(rng: np.random.Generator) -> Hostile:
    which = int(rng.integers(len(OTHER_FORMATS) + 3))
    if which < len(OTHER_FORMATS):
        return _one("another format", OTHER_FORMATS[which])
    if which == len(OTHER_FORMATS):
        return _one("empty", b"")
    if which == len(OTHER_FORMATS) + 1:
        return _one("noise", rng.bytes(int(rng.integers(1, 10_000))))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("image.png", bytes(10**6))
    return _one("zip", archive.getvalue())


def _odd_dicom(rng: np.random.Generator) -> Hostile:
    values = image(int(rng.integers(1000)), 100)
    attributes = (
        {"RescaleSlope": "NaN", "RescaleIntercept": "0"},
        {"RescaleSlope": "1e308", "RescaleIntercept": "1e308"},
        {"WindowCenter": "0", "WindowWidth": "0"},
        {"WindowCenter": "nan", "WindowWidth": "nan"},
        {"Rows": 65535, "Columns": 65535},
        {"Rows": 0, "Columns": 0},
        {"BitsStored": 0},
        {"BitsAllocated": 64},
        {"NumberOfFrames": "999999"},
        {"SamplesPerPixel": 65535},
        {"PhotometricInterpretation": "PALETTE COLOR"},
    )[rng.integers(11)]
    made = dataset(values)
    for name, value in attributes.items():
        try:
            setattr(made, name, value)
        except ValueError:  # pydicom itself refuses to write it
            return _one("odd DICOM", dicom(values)[:-50])
    return _one(f"DICOM {', '.join(attributes)}", dicom(made))


def _odd_request(rng: np.random.Generator) -> Hostile:
    sound = _sound(rng)
    body = multipart([sound])
    json_type = (("content-type", "application/json"),)
    choices = (
        Hostile("another content type", body, json_type),
        Hostile("no content type", body, ()),
        Hostile("no boundary", body, (("content-type", "multipart/form-data"),)),
        Hostile("another boundary", body, (("content-type", "multipart/form-data; boundary=x"),)),
        Hostile("another part", multipart([sound], name="image")),
        Hostile("two parts", multipart([sound, sound])),
        Hostile("no part", multipart([])),
        Hostile("empty body", b""),
        Hostile("noise for a body", rng.bytes(3000)),
        Hostile("a false length", body, length=21 * 2**20),
        Hostile("a bad parameter", body, path="/v1/screen?explain=perhaps"),
        Hostile("another path", body, path="/v1/../etc/passwd"),
    )
    return choices[rng.integers(len(choices))]


def _batch(rng: np.random.Generator) -> Hostile:
    files = [_sound(rng)[: rng.integers(1, 5000)] for _ in range(rng.integers(1, 36))]
    return Hostile("a batch", multipart(files), path="/v1/screen/batch")
