import re
import socket
from pathlib import Path

import pytest

from cxr_platform.errors import ServingError
from cxr_platform.registry.promotion import promote
from cxr_platform.serving.champion_watcher import ChampionWatcher
from cxr_platform.serving.screener import Screener
from pipelines import serve
from pipelines.options import parse_request
from pipelines.serve_checks import check_cluster_options, check_port_is_free, first_version, tls_options
from tests.serving.builders import filler, registry_with_champion
from tests.serving.certificates import write_certificate


def test_the_files_of_a_certificate_become_options_of_serve(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path)
    assert tls_options(None, None) == {}
    assert tls_options(cert, key) == {"ssl_certfile": str(cert), "ssl_keyfile": str(key)}


def test_files_that_are_no_valid_certificate_are_errors(tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path)
    _, other = write_certificate(tmp_path, "other")
    _, encrypted = write_certificate(tmp_path, "encrypted", b"secret")
    expired, of_expired = write_certificate(tmp_path, "expired", days=(-30, -1))
    later, of_later = write_certificate(tmp_path, "later", days=(1, 30))
    for first, second, message in (
        (cert, None, "Expected --tls-cert and --tls-key together. Received: --tls-cert alone."),
        (None, key, "Received: --tls-key alone."),
        (tmp_path / "none", key, f"Expected a certificate (PEM) at {tmp_path / 'none'}."),
        (cert, tmp_path, f"Expected a private key (PEM) at {tmp_path}."),
        (cert, other, "KEY_VALUES_MISMATCH"),
        (key, key, f"the certificate (PEM) in {key}"),
        (cert, encrypted, f"Expected in {encrypted} the unencrypted private key"),
        (expired, of_expired, f"Expected in {expired} a certificate that is valid now"),
        (later, of_later, f"Expected in {later} a certificate that is valid now"),
    ):
        with pytest.raises(ServingError, match=re.escape(message)):
            tls_options(first, second)


@pytest.mark.parametrize("option", ["--tls-cert", "--tls-key"])
def test_a_certificate_is_refused_for_a_running_cluster(option: str) -> None:
    """Serve would ignore it if it runs there already, and the message at the start would name an https address."""
    request = parse_request(serve.ServeRequest, serve.parser(), [option, "file.pem"])
    expected = "Expected neither --tls-cert nor --tls-key for the running Ray cluster 'auto'.*ssl_certfile"
    with pytest.raises(ServingError, match=expected):
        check_cluster_options(request, "auto")


def test_a_request_without_options_of_the_proxies_is_for_a_running_cluster_too() -> None:
    check_cluster_options(parse_request(serve.ServeRequest, serve.parser(), []), "auto")


def test_a_port_in_use_is_an_error_and_any_free_one_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServingError, match=f"Expected port {port} to be free for Prometheus"):
            check_port_is_free(port)
    check_port_is_free(0)


def test_a_changed_champion_is_refused(tmp_path: Path) -> None:
    registry = registry_with_champion(tmp_path / "registry")
    assert first_version(registry.root) == "v1"
    (registry.root / "v1" / "model.onnx").write_bytes(b"")
    with pytest.raises(ServingError, match="v1, damaged or changed"):
        first_version(registry.root)


def test_a_broken_champion_is_replaced_by_the_previous_one_as_in_a_replica(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = registry_with_champion(tmp_path / "registry")
    registry.add(filler(seed=1))
    promote(registry, "v2", force=True, lead_seconds=0)
    (registry.root / "v2" / "model.onnx").write_bytes(b"")
    replica = ChampionWatcher(registry, lambda folder, bundle: Screener(folder, bundle, threads=1))
    assert first_version(registry.root) == replica.current[0] == "v1"
    assert "v2 cannot be loaded: v1 is served. Run: cxr registry verify." in capsys.readouterr().err


def test_a_champion_that_is_no_better_than_the_most_frequent_class_is_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = registry_with_champion(tmp_path / "registry")
    assert first_version(registry.root) == "v1"
    assert capsys.readouterr().err == ""
    registry.add(filler(accuracy=25.0))
    promote(registry, "v2", force=True, lead_seconds=0)
    assert first_version(registry.root) == "v2"
    told = "v2 is not shown to be better than always naming the most frequent class.\n"
    assert capsys.readouterr().err == told
