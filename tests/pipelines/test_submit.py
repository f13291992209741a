"""What is submitted; that it runs on a real cluster is shown in tests/cluster."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import ClientError

from cxr_platform.errors import ConfigError
from pipelines import submit
from tests.conftest import REPOSITORY


class Client:
    """As Ray's `JobSubmissionClient`, for a job that ends with `status`."""

    def __init__(self, status: str = "SUCCEEDED") -> None:
        self.status, self.submitted, self.stopped = status, [], []

    def submit_job(self, **request: object) -> str:
        self.submitted.append(request)
        return "job-1"

    def stop_job(self, job: str) -> None:
        self.stopped.append(job)

    def get_job_status(self, _job: str) -> str:
        return self.status

    def get_job_info(self, _job: str) -> SimpleNamespace:
        return SimpleNamespace(message="it was stopped")

    async def tail_job_logs(self, _job: str) -> AsyncIterator[str]:
        yield "Study t\n"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    client = Client()
    monkeypatch.setattr(submit, "_client", lambda _: client)
    return client


def test_a_verb_is_submitted_with_its_arguments_and_its_log_followed(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit.main(["cross-validate", "--data", "s3://a b/c", "--profile", "paper"]) == 0
    (request,) = client.submitted
    assert request["entrypoint"] == "python -m pipelines.cross_validate --data 's3://a b/c' --profile paper"
    assert "Study t" in capsys.readouterr().out


def test_the_checkout_is_sent_without_data_and_environments(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert submit.main(["--no-wait", "report", "--study", "x"]) == 0
    sent = client.submitted[0]["runtime_env"]
    assert sent["working_dir"] == str(REPOSITORY)
    assert {".venv", ".venv-jax", ".git", "/data", "/runs", "/registry"} <= set(sent["excludes"])
    assert sent["env_vars"] == {"KERAS_BACKEND": "jax"}


def test_the_backend_that_this_stack_chose_is_not_sent(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr(submit, "BACKEND_OF_STACK", "jax")
    assert submit.main(["--no-wait", "report", "--study", "x"]) == 0
    assert client.submitted[0]["runtime_env"]["env_vars"] == {}


@pytest.mark.parametrize("verb", ["cross_validate.py", "pipelines.cross_validate", "places", "submit", "--no-wait"])
def test_the_error_of_an_unknown_verb_lists_the_verbs(client: Client, verb: str) -> None:
    with pytest.raises(ConfigError, match="verb out of phantoms, manifest, cross-validate"):
        submit.entrypoint(verb, [])
    assert client.submitted == []


def test_the_address_takes_precedence_over_variables_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def jobs(address: str) -> str:
        assert not {"RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"} & os.environ.keys()
        return address

    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", jobs)
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    assert submit._client("http://127.0.0.1:9") == "http://127.0.0.1:9"
    assert os.environ["RAY_ADDRESS"] == "http://127.0.0.1:1"


def test_an_installed_package_sends_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(submit, "__file__", str(tmp_path / "pipelines" / "submit.py"))
    assert "working_dir" not in submit.runtime_environment()


def test_a_job_that_did_not_succeed_is_exit_code_1_with_the_reason(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    client.status = "STOPPED"
    assert submit.main(["report", "--study", "x"]) == 1
    assert "it was stopped" in capsys.readouterr().err


def test_a_job_is_stopped_by_its_name(client: Client) -> None:
    assert submit.main(["--stop", "job-1"]) == 0
    assert client.stopped == ["job-1"]


@pytest.mark.parametrize("verb", [[], ["nonsense"]])
def test_a_missing_or_unknown_verb_is_exit_code_2(client: Client, verb: list[str], capsys) -> None:
    assert submit.main(verb) == 2
    assert "Expected a verb" in capsys.readouterr().err
    assert not client.submitted


def test_the_error_of_an_unreachable_address_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert os.environ.get("RAY_API_SERVER_ADDRESS") is None
    assert submit.main(["--address", "http://127.0.0.1:9", "report"]) == 2
    error = capsys.readouterr().err
    assert "jobs API at http://127.0.0.1:9" in error
    assert "RAY_AUTH_MODE=token" in error


@pytest.mark.parametrize("words", [["report", "--study", "x"], ["--stop", "job-9"]])
def test_a_refusal_of_the_cluster_is_an_error_and_not_a_defect(
    client: Client, words: list[str], monkeypatch, capsys
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("Request failed with status code 404: Job job-9 does not exist.\nTraceback of the server")

    monkeypatch.setattr(client, "submit_job", refuse)
    monkeypatch.setattr(client, "stop_job", refuse)
    assert submit.main(words) == 2
    error = capsys.readouterr().err
    assert "job-9 does not exist" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("error", [RuntimeError("WebSocket closed"), ConnectionError("no route"), ClientError("gone")])
def test_the_error_of_a_lost_log_says_that_the_job_may_go_on(client: Client, error, monkeypatch, capsys) -> None:
    async def broken(_job: str) -> AsyncIterator[str]:
        yield "Study t\n"
        raise error

    monkeypatch.setattr(client, "tail_job_logs", broken)
    assert submit.main(["report", "--study", "x"]) == 1
    assert "ray job logs --follow job-1" in capsys.readouterr().err
