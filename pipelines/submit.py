"""Run a verb as a job of a Ray cluster and follow its log.

    cxr submit --address http://127.0.0.1:8265 cross_validate --profile paper --data URI --storage URI

Ray uploads this checkout as the working directory of the job, without images, manifests, studies and registry. If the
package is installed without a checkout, nothing is uploaded and the job runs what is installed on the cluster. Python
and its packages, paths and URIs are always those of the cluster.

Ctrl-C leaves the job running, and `--stop JOB` ends it. Submitting the same command again continues the study.
"""

import argparse
import asyncio
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_platform import BACKEND_OF_STACK
from cxr_platform.errors import ConfigError, JobFailed, first_line
from pipelines.cli import VERBS
from pipelines.command import run_command
from pipelines.options import parse_request

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ADDRESS = "http://127.0.0.1:8265"
NOT_SENT = (".git", ".venv", ".venv-jax", "/data", "/runs", "/registry", "/mlruns", "/.site", "**/__pycache__")
"""Excluded from the upload, as patterns of .gitignore. Ray refuses a working directory of more than 500 MiB."""

PASSED_ON = ("KERAS_BACKEND",)
"""Environment variables that the job gets from here, if the user set them: the cluster has a stack of its own. Secrets
are not sent: nodes have their own."""


@dataclass(frozen=True)
class SubmitRequest:
    """Address of the jobs API, and either a verb with its arguments or a job to `stop`."""

    address: str
    no_wait: bool
    stop: str | None
    verb: str | None
    arguments: list[str]


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, 1 if the job failed or was stopped, 2 if it could not be submitted."""
    return run_command(lambda: run(parse_request(SubmitRequest, parser(), argv)))


def parser() -> argparse.ArgumentParser:
    """Return the options of `cxr submit`."""
    parser = argparse.ArgumentParser(
        prog="cxr submit", description="Run a verb as a job of a Ray cluster and follow its log."
    )
    parser.add_argument(
        "--address",
        default=os.environ.get("RAY_API_SERVER_ADDRESS", ADDRESS),
        metavar="URL",
        help=f"jobs API of the cluster (default: RAY_API_SERVER_ADDRESS, or {ADDRESS})",
    )
    parser.add_argument("--no-wait", action="store_true", help="return at once instead of following the log")
    parser.add_argument("--stop", metavar="JOB", help="stop a job; the same submit continues its study")
    parser.add_argument("verb", nargs="?", help="verb to run, such as cross_validate")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of the verb")
    return parser


def run(request: SubmitRequest) -> int:
    """Submit or stop a job; return 0, or raise `JobFailed` if the job fails while its log is followed."""
    if request.stop:
        with _jobs_api_errors():
            _client(request.address).stop_job(request.stop)
        print(f"{request.stop} is being stopped.")
        return 0
    command, client = entrypoint(request.verb, request.arguments), _client(request.address)
    with _jobs_api_errors():
        job = client.submit_job(entrypoint=command, runtime_env=runtime_environment())
    print(f"{job}: {command}", flush=True)
    return 0 if request.no_wait else _follow(client, job)


def entrypoint(verb: str | None, arguments: Sequence[str]) -> str:
    """Return the shell command of the job; raise `ConfigError` for an unknown verb. `_` and `-` are alike in `verb`."""
    name = (verb or "").replace("_", "-")
    if name not in VERBS or name == "submit":
        known = ", ".join(other for other in VERBS if other != "submit")
        raise ConfigError(
            f"Expected a verb out of {known}.", received=verb or "none", advice="Example: cxr submit cross_validate …"
        )
    return shlex.join(["python", "-m", f"pipelines.{name.replace('-', '_')}", *arguments])


def runtime_environment() -> dict[str, Any]:
    """Return Ray's runtime environment of the job: this checkout, if it is one, and the variables `PASSED_ON`."""
    variables = {name: os.environ[name] for name in PASSED_ON if os.environ.get(name) not in (None, BACKEND_OF_STACK)}
    checkout = Path(__file__).resolve().parents[1]
    if not (checkout / "pyproject.toml").exists():
        return {"env_vars": variables}
    return {"env_vars": variables, "working_dir": str(checkout), "excludes": list(NOT_SENT)}


def _client(address: str) -> "JobSubmissionClient":
    from ray.exceptions import RayError
    from ray.job_submission import JobSubmissionClient

    # Hidden while the client is made, because Ray prefers these variables to its argument `address`.
    hidden = {name: os.environ.pop(name) for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS") if name in os.environ}
    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError, RayError) as error:  # RayError: no token, or a wrong one
        raise ConfigError(
            f"Expected a Ray cluster's jobs API at {address}, reached with its token.",
            received=first_line(error),
            advice="Export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or write ~/.ray/auth_token) as on the cluster; "
            "`ray dashboard` or `kubectl port-forward` open a tunnel to a port on the cluster's loopback.",
        ) from error
    finally:
        os.environ.update(hidden)


@contextmanager
def _jobs_api_errors() -> Iterator[None]:
    """Raise `ConfigError` for an error of Ray's jobs API, because the user can correct its cause."""
    try:
        yield
    except _error_types() as error:
        raise ConfigError(
            "Expected the cluster to accept the request.",
            received=first_line(error),
            advice="`ray job list` lists the jobs. The working directory may have 500 MiB at most: "
            "keep images and results elsewhere, or in data, runs and registry, which are not sent.",
        ) from error


def _error_types() -> tuple[type[Exception], ...]:
    from aiohttp import ClientError
    from ray.exceptions import RayError

    # OSError includes the exceptions of the library `requests`.
    return (OSError, RuntimeError, ValueError, RayError, ClientError)


def _follow(client: "JobSubmissionClient", job: str) -> int:
    try:
        asyncio.run(_print_log(client, job))
        status = client.get_job_status(job)
        message = client.get_job_info(job).message or status
    except KeyboardInterrupt:
        print(f"\n{job} goes on. To end it: cxr submit --stop {job}", file=sys.stderr)
        return 0
    except _error_types() as error:
        raise JobFailed(
            f"Expected to follow job {job} to its end.",
            received=first_line(error),
            advice=f"It may go on: `ray job status {job}`, `ray job logs --follow {job}`.",
        ) from error
    if status != "SUCCEEDED":
        raise JobFailed(f"Expected job {job} to succeed.", received=message, advice="Read its log above.")
    return 0


async def _print_log(client: "JobSubmissionClient", job: str) -> None:
    async for lines in client.tail_job_logs(job):
        print(lines, end="", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
