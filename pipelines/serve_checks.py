"""What `cxr serve` checks before it starts Ray, so that a mistake is an error at once."""

import socket
import ssl
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_platform.errors import ServingError

if TYPE_CHECKING:
    from pipelines.serve import ServeRequest


def check_cluster_options(request: "ServeRequest", cluster: str) -> None:
    """Raise `ServingError` for options that cannot reach the proxies of a cluster.

    They are already running, and read API keys from the environment in which their node was started.
    """
    from cxr_platform.serving.access import is_loopback
    from cxr_platform.serving.api_keys import FILE_VARIABLE
    from cxr_platform.serving.request_log import VARIABLE

    if request.request_log is not None:
        raise ServingError(
            f"Expected no --request-log for the running Ray cluster {cluster!r}.",
            received=f"--request-log {request.request_log}",
            advice=f"Start its nodes with {VARIABLE}=/path in their environment, as in infra/ray/environment.",
        )
    if request.tls_cert is not None or request.tls_key is not None:
        raise ServingError(
            f"Expected neither --tls-cert nor --tls-key for the running Ray cluster {cluster!r}.",
            received=f"{request.tls_cert or request.tls_key}",
            advice="Put the files on every node, set ssl_certfile and ssl_keyfile of http_options in "
            "infra/serve/config.yaml and run serve deploy.",
        )
    if request.keys is not None or not is_loopback(request.host):
        raise ServingError(
            f"Expected neither --keys nor a --host other than loopback for the running Ray cluster {cluster!r}.",
            received=f"--host {request.host}" + ("" if request.keys is None else f" --keys {request.keys}"),
            advice=f"Start its nodes with {FILE_VARIABLE}=/path in their environment, as in infra/ray/environment; "
            "then set http_options.host in infra/serve/config.yaml and run serve deploy.",
        )


def tls_options(cert: Path | None, key: Path | None) -> dict[str, str]:
    """Return Serve's `http_options` for HTTPS, none without files.

    Raise `ServingError` for files that do not fit, for which Serve itself would start a proxy that fails again and
    again and report a timeout, and for a certificate that clients would refuse today.
    """
    from cryptography import x509

    if cert is None and key is None:
        return {}
    if cert is None or key is None:
        raise ServingError(
            "Expected --tls-cert and --tls-key together.",
            received="--tls-key alone" if cert is None else "--tls-cert alone",
        )
    for path, content in ((cert, "a certificate"), (key, "a private key")):
        try:
            path.read_bytes()
        except OSError as error:
            raise ServingError(f"Expected {content} (PEM) at {path}.", received=error.strerror) from error
    try:
        # The password keeps OpenSSL from asking for one on the terminal; a key that needs one is refused.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise ServingError(
            f"Expected in {key} the unencrypted private key (PEM) of the certificate (PEM) in {cert}.",
            received=getattr(error, "reason", None) or str(error),
            advice="Name the two files of one certificate, with its chain after it.",
        ) from error
    first, *_ = x509.load_pem_x509_certificates(cert.read_bytes())
    begins, ends, now = first.not_valid_before_utc, first.not_valid_after_utc, datetime.now(timezone.utc)
    if not begins <= now <= ends:
        raise ServingError(
            f"Expected in {cert} a certificate that is valid now, {now:%Y-%m-%d %H:%M} UTC.",
            received=f"one from {begins:%Y-%m-%d %H:%M} to {ends:%Y-%m-%d %H:%M} UTC",
            advice="Renew it; if the dates are right, set the clock of this machine.",
        )
    return {"ssl_certfile": str(cert.absolute()), "ssl_keyfile": str(key.absolute())}


def check_port_is_free(port: int) -> None:
    """Raise `ServingError` if the port is in use: Ray would start without publishing metrics, and not report it."""
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        raise ServingError(
            f"Expected port {port} to be free for Prometheus.",
            received=error.strerror,
            advice="Choose another --metrics-port and configure Prometheus accordingly, or 0 for any free one.",
        ) from error


def first_version(registry: Path, public_key: str | None = None) -> str:
    """Return the version that replicas start with: the champion, or the one before it if the champion is broken.

    Replicas choose in the same way, so that a restarted server answers like one that was never stopped.
    """
    from cxr_platform.registry.store import Registry
    from cxr_platform.serving.champion_watcher import ChampionWatcher

    watcher = ChampionWatcher(Registry(registry, public_key), lambda _, bundle: bundle)
    (version, bundle), refused = watcher.current, watcher.status.refused
    if not bundle.better_than_majority:
        print(f"{version} is not shown to be better than always naming the most frequent class.", file=sys.stderr)
    if refused:
        print(f"{', '.join(refused)} cannot be loaded: {version} is served. Run: cxr registry verify.", file=sys.stderr)
    return version
