import asyncio
import logging
from collections.abc import Iterator

import pytest

from cxr_platform.serving.log_silencing import TALKATIVE, quiet_libraries
from cxr_platform.serving.problems import Problem
from cxr_platform.serving.upload import Limits, files_of
from tests.serving.asking import MULTIPART
from tests.serving.test_upload import receiving


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    """Each library's level as it was, before and after."""
    before = {name: logging.getLogger(name).level for name in TALKATIVE}
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.NOTSET)
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def upload_garbage() -> None:
    with pytest.raises(Problem):
        asyncio.run(files_of(receiving([b"--images\r\nDoe Jane"]), MULTIPART, Limits(), 1))


def test_the_parser_of_bodies_quotes_what_it_reads(caplog: pytest.LogCaptureFixture) -> None:
    upload_garbage()
    assert "python_multipart" in {record.name.partition(".")[0] for record in caplog.records}


def test_nothing_of_it_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    quiet_libraries()
    caplog.clear()
    upload_garbage()
    assert not caplog.records
