import json

import pytest

from cxr_platform.errors import ImageRefused
from cxr_platform.intake.candidate import REASONS
from cxr_platform.serving.problems import PROBLEM_TYPES, Problem, problem_for_image, problem_for_status


@pytest.mark.parametrize("reason", PROBLEM_TYPES)
def test_every_problem_has_a_title_and_a_detail(reason: str) -> None:
    problem = Problem(reason)
    details = json.loads(problem.body("ab" * 16))
    assert details["status"] == problem.status >= 400
    assert details["title"].endswith(".")
    assert details["detail"] == problem.advice
    assert details["request_id"] == "ab" * 16
    assert ("Connection" in problem.headers) == (problem.status in (408, 413, 431))
    assert ("Retry-After" in problem.headers) == (problem.status in (408, 429, 503))
    assert problem.headers.get("Accept-Encoding") == ("identity" if reason == "encoded-body" else None)


def test_the_detail_of_a_refused_image_is_dropped() -> None:
    problem = problem_for_image(ImageRefused("modality", "DICOM: Modality Doe^Jane"))
    assert (problem.reason, problem.status) == ("modality", 422)
    assert "Doe" not in str(problem) + problem.body("").decode()


@pytest.mark.parametrize(
    "reason", ["not-an-image", "undecodable", "too-large", "multi-frame", "no-pixel-data", "modality"]
)
def test_every_reason_of_the_decoders_has_a_problem(reason: str) -> None:
    assert reason in REASONS
    assert problem_for_image(ImageRefused(reason, "")).reason == reason


def test_an_unknown_reason_counts_as_undecodable() -> None:
    assert problem_for_image(ImageRefused("new", "")).reason == "undecodable"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (404, "not-found"),
        (405, "wrong-method"),
        (408, "unavailable"),
        (429, "busy"),
        (503, "unavailable"),
        (418, "bad-request"),
        (499, "bad-request"),
        (500, "internal-error"),
        (507, "internal-error"),
        (599, "internal-error"),
    ],
)
def test_a_status_is_mapped_to_a_problem(status: int, reason: str) -> None:
    assert problem_for_status(status).reason == reason
