"""Run a verb as a job of a Ray cluster and follow its log.

    python -m pipelines.submit [--address http://127.0.0.1:8265] cross_validate --profile paper --data URI --storage URI

The job gets this checkout as its working directory, without images, manifests, studies and registry, and runs on the
cluster's own Python; where the package is installed there and not checked out here, nothing is sent. Paths and URIs are
those of the cluster. Ctrl-C leaves the job running; `--stop JOB` ends one, and the same submit continues its study.
"""

import argparse
import asyncio
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_platform.errors import ConfigError, JobFailed, first_line
from pipelines.cli import VERBS
from pipelines.command import run_command

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ADDRESS = "http://127.0.0.1:8265"
NOT_SENT = (".git", ".venv", "/data", "/runs", "/registry", "/mlruns", "**/__pycache__")
"""As lines of a .gitignore. Ray refuses a working directory of more than 500 MiB."""

PASSED_ON = ("KERAS_BACKEND",)
"""Environment that changes what a verb does; whatever is secret is the cluster's own."""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 1 when the job failed or was stopped, 2 when it could not be submitted."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cxr submit", description=__doc__.split("\n")[0])
    parser.add_argument("--address", default=os.environ.get("RAY_API_SERVER_ADDRESS", ADDRESS), metavar="URL")
    parser.add_argument("--no-wait", action="store_true", help="do not follow the log")
    parser.add_argument("--stop", metavar="JOB", help="end a job; its study continues with the same submit")
    parser.add_argument("verb", nargs="?", help="as cross_validate")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="those of the verb")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    if arguments.stop:
        with _refusals():
            _client(arguments.address).stop_job(arguments.stop)
        print(f"{arguments.stop} is told to stop.")
        return 0
    command, client = entrypoint(arguments.verb, arguments.arguments), _client(arguments.address)
    with _refusals():
        job = client.submit_job(entrypoint=command, runtime_env=runtime_environment())
    print(f"{job}: {command}", flush=True)
    return 0 if arguments.no_wait else _follow(client, job)


def entrypoint(verb: str | None, arguments: Sequence[str]) -> str:
    """The command of the job; `ConfigError` for a verb that there is not."""
    name = (verb or "").replace("_", "-")
    if name not in VERBS or name == "submit":
        known = ", ".join(other for other in VERBS if other != "submit")
        raise ConfigError(
            f"Expected a verb out of {known}.", received=verb or "none", advice="As: cxr submit cross_validate …"
        )
    return shlex.join(["python", "-m", f"pipelines.{name.replace('-', '_')}", *arguments])


def runtime_environment() -> dict[str, Any]:
    """What the job gets from here: the checkout, if this is one, and what changes results."""
    variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    checkout = Path(__file__).resolve().parents[1]
    if not (checkout / "pyproject.toml").exists():
        return {"env_vars": variables}
    return {"env_vars": variables, "working_dir": str(checkout), "excludes": list(NOT_SENT)}


def _client(address: str) -> "JobSubmissionClient":
    from ray.exceptions import RayError
    from ray.job_submission import JobSubmissionClient

    try:
        with _nothing_else_said():
            return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError, RayError) as error:  # the last: without the token, or with another
        raise ConfigError(
            f"Expected a Ray cluster's jobs API at {address}, reached with its token.",
            received=first_line(error),
            advice="Export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or ~/.ray/auth_token) as the cluster has them; "
            "`ray dashboard` or `kubectl port-forward` make a tunnel to a port that listens on loopback there.",
        ) from error


@contextmanager
def _nothing_else_said() -> Iterator[None]:
    """For Ray these variables say more than the address that it is given."""
    said = {name: os.environ.pop(name) for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS") if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(said)


@contextmanager
def _refusals() -> Iterator[None]:
    """What Ray's jobs API does not do is for the user to put right, and not a defect."""
    try:
        yield
    except _jobs_errors() as error:
        raise ConfigError(
            "Expected the cluster to take the request.",
            received=first_line(error),
            advice="`ray job list` tells which jobs there are; the working directory may have 500 MiB at most, "
            "without what it is sent without: keep images and results elsewhere, or in data, runs and registry.",
        ) from error


def _jobs_errors() -> tuple[type[Exception], ...]:
    from aiohttp import ClientError
    from ray.exceptions import RayError

    return (OSError, RuntimeError, ValueError, RayError, ClientError)  # of requests all are OSError


def _follow(client: "JobSubmissionClient", job: str) -> int:
    try:
        asyncio.run(_print_log(client, job))
        status = client.get_job_status(job)
        message = client.get_job_info(job).message or status
    except KeyboardInterrupt:
        print(f"\n{job} goes on. To end it: cxr submit --stop {job}", file=sys.stderr)
        return 0
    except _jobs_errors() as error:
        raise JobFailed(
            f"Expected to follow job {job} to its end.",
            received=first_line(error),
            advice=f"It may go on: `ray job status {job}`, `ray job logs --follow {job}`.",
        ) from error
    if status != "SUCCEEDED":
        raise JobFailed(f"Expected job {job} to succeed.", received=message, advice="Its log says more, above.")
    return 0


async def _print_log(client: "JobSubmissionClient", job: str) -> None:
    async for lines in client.tail_job_logs(job):
        print(lines, end="", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
