import asyncio
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cxr_platform.serving.problems import Problem
from cxr_platform.serving.upload import Disconnected, Limits, check_content, read_files
from tests.serving.asgi_client import MULTIPART, multipart
from tests.serving.builders import image_png

LIMITS = Limits(body_bytes=1000)


def receiving(pieces: Sequence[bytes], pause: float = 0.0) -> Callable[[], Any]:
    """An ASGI `receive` with a body in pieces, after which the client disconnects."""
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    if messages:
        messages[-1]["more_body"] = False

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(pause)
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    return receive


def read(
    pieces: Sequence[bytes],
    headers: dict[str, str] | None = None,
    most: int = 1,
    pause: float = 0.0,
    limits: Limits = LIMITS,
) -> list[bytes]:
    return asyncio.run(read_files(receiving(pieces, pause), {**MULTIPART, **(headers or {})}, limits, most))


def refusal(*arguments: Any, **options: Any) -> str:
    with pytest.raises(Problem) as refused:
        read(*arguments, **options)
    return refused.value.reason


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_a_file_is_complete_wherever_its_body_is_cut(size: int) -> None:
    content = b"\r\n--image\r\n-- \r\r\n--image" + bytes(range(256))
    body = multipart([content])
    assert read([body[at : at + size] for at in range(0, len(body), size)]) == [content]


def test_files_are_returned_in_order() -> None:
    assert read([multipart([b"a", b"", b"c"])], most=3) == [b"a", b"", b"c"]


def test_too_many_files_are_refused() -> None:
    assert refusal([multipart([b"a", b"b"])]) == "too-many-files"


def test_the_size_limit_counts_received_bytes_whatever_content_length_says() -> None:
    body = multipart([bytes(1000)])
    assert refusal([body], {"content-length": "10"}) == "too-large"
    assert refusal([body]) == "too-large"
    assert refusal([], {"content-length": "1001"}) == "too-large"
    assert refusal([], {"content-length": "9" * 5000}) == "too-large"
    assert len(read([multipart([bytes(1000 - len(multipart([b""])))])])[0]) > 800


@pytest.mark.parametrize("declared", ["-1", "ten", "1.5", "", "١"])
def test_an_invalid_content_length_is_refused(declared: str) -> None:
    assert refusal([], {"content-length": declared}) == "bad-request"


def test_a_slow_upload_is_refused_even_if_bytes_keep_arriving() -> None:
    body = multipart([bytes(100)])
    pieces = [body[at : at + 1] for at in range(len(body))]
    assert refusal(pieces, pause=0.05, limits=Limits(upload_seconds=0.2)) == "slow-upload"


def test_a_client_that_disconnects_causes_no_problem() -> None:
    body = multipart([bytes(100)])
    with pytest.raises(Disconnected):
        asyncio.run(read_files(receiving([]), MULTIPART, LIMITS, 1))
    assert refusal([body[:50]]) == "broken-multipart"


@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "application/dicom", "multipart/form-data", "multipart/form-data; boundary=",
     "multipart/mixed; boundary=x", f"multipart/form-data; boundary={'x' * 300}", ";;;="],
)  # fmt: skip
def test_other_media_types_are_refused(kind: str) -> None:
    assert refusal([b"x"], {"content-type": kind}) == "not-multipart"


@pytest.mark.parametrize("encoding", ["", "identity", " Identity ", "identity, identity"])
def test_a_body_whose_encoding_changes_nothing_is_read(encoding: str) -> None:
    assert read([multipart([b"image"])], {"content-encoding": encoding}) == [b"image"]


@pytest.mark.parametrize(
    ("encoding", "received"),
    [
        ("gzip", "gzip"),
        ("GZIP , identity", "gzip"),
        ("deflate,br", "deflate, br"),
        ("zstd", "zstd"),
        ("gzip, Jane Doe", "an unknown encoding"),
        ("gzip" * 5000, "an unknown encoding"),
    ],
)
def test_an_encoded_body_is_refused_before_it_is_read_with_the_name_of_a_known_encoding(
    encoding: str, received: str
) -> None:
    with pytest.raises(Problem) as refused:
        read([], {"content-encoding": encoding})
    assert refused.value.reason == "encoded-body"
    expected = f"Expected: no Content-Encoding. Received: {received}. Send the body as it is, without Content-Encoding."
    assert refused.value.details("1")["detail"] == expected


@pytest.mark.parametrize("name", ["image", "", "FILE", "file[]"])
def test_fields_of_other_names_are_refused(name: str) -> None:
    assert refusal([multipart([b"x"], name)]) == "no-file"


def test_a_field_without_a_name_is_refused() -> None:
    assert refusal([b"--images\r\nContent-Type: image/png\r\n\r\nx\r\n--images--\r\n"]) == "no-file"


@pytest.mark.parametrize("body", [b"", b"\0" * 300, b"--other\r\n\r\nx", b"--images", b"--images\r\n" + b"a" * 400])
def test_malformed_bodies_are_refused(body: bytes) -> None:
    assert refusal([body]) == "broken-multipart"


@pytest.mark.parametrize(
    ("data", "reason"), [(b"", "empty-file"), (b"PK\3\4", "not-an-image"), (b"<html>", "not-an-image")]
)
def test_the_content_decides_whether_a_file_is_an_image(data: bytes, reason: str) -> None:
    with pytest.raises(Problem) as refused:
        check_content(data)
    assert refused.value.reason == reason
    check_content(image_png())


@pytest.mark.parametrize(
    ("data", "advice"),
    [
        (b"II*\0" + bytes(20), "Received: TIFF image. Save it as PNG."),
        (b"PK\3\4", "Received: zip archive. Unpack it."),
        (b"version https://git-lfs", "Received: Git LFS pointer. Get the image with git lfs pull."),
        (b"Jane Doe, 1.2.1950", "Send the image as PNG, JPEG or DICOM."),
    ],
)
def test_the_problem_names_a_known_format_and_nothing_of_the_content(data: bytes, advice: str) -> None:
    with pytest.raises(Problem) as refused:
        check_content(data)
    sent = pickle.loads(pickle.dumps(refused.value))  # as between the processes of Serve
    assert sent.details("1")["detail"] == sent.advice == advice
