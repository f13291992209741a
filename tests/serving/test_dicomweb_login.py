from pathlib import Path

import pytest

from cxr_platform.errors import ServingError
from cxr_platform.serving.dicomweb_login import Login, check_encrypted, check_one_server, check_url, load_login


@pytest.mark.parametrize(
    "url", ["pacs/dicom-web", "ftp://pacs", "http://", "http://pacs/dicom-web?key=1", "http://pacs:port", "http://["]
)
def test_a_wrong_url_is_an_error(url: str) -> None:
    with pytest.raises(ServingError, match="like https://HOST/dicom-web"):
        check_url(url)


def test_a_login_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ServingError, match="CXR_DICOMWEB_LOGIN_FILE") as error:
        check_url("http://ward:secret@pacs/dicom-web")
    assert "secret" not in str(error.value)
    with pytest.raises(ServingError, match="invalid host or port") as error:
        check_url("http://ward:secret@pacs:port/dicom-web")
    assert "secret" not in str(error.value)


def test_a_login_comes_from_a_variable_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "login"
    file.write_text("ward:a:b\n", encoding="utf-8")
    assert load_login({}) is None
    assert load_login({"CXR_DICOMWEB_LOGIN_FILE": str(file)}) == Login("ward", "a:b")
    assert load_login({"CXR_DICOMWEB_TOKEN": "abc"}) == Login(token="abc")
    assert "a:b" not in repr(Login("ward", "a:b"))
    assert "abc" not in repr(Login(token="abc"))


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"CXR_DICOMWEB_LOGIN": "secret"}, "USER:PASSWORD"),
        ({"CXR_DICOMWEB_LOGIN": "secret:s", "CXR_DICOMWEB_TOKEN": "secret"}, "one of"),
        ({"CXR_DICOMWEB_TOKEN_FILE": "/nowhere/secret"}, "readable file"),
    ],
)
def test_a_login_that_cannot_be_used_is_an_error_without_it(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ServingError, match=message) as error:
        load_login(environment)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("other", ["https://archive/dicom-web", "http://pacs/dicom-web", "https://pacs:8443/dicom-web"])
def test_one_login_goes_to_one_server(other: str) -> None:
    check_one_server("https://pacs/dicom-web", "https://PACS:443/other")
    with pytest.raises(ServingError, match="one server"):
        check_one_server("https://pacs/dicom-web", other)


def test_a_login_is_not_sent_unencrypted_to_another_machine() -> None:
    for url in ("https://pacs/dicom-web", "http://localhost:8042/dicom-web", "http://127.0.0.1:8042/dicom-web"):
        check_encrypted(url)
    with pytest.raises(ServingError, match=r"Expected https.*Received: http://pacs/dicom-web"):
        check_encrypted("http://pacs/dicom-web")
