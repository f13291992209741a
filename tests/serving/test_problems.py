import json

import pytest

from cxr_platform.errors import ImageRefused
from cxr_platform.intake.candidate import REASONS
from cxr_platform.serving.problems import KINDS, Problem, problem_of_image, problem_of_status


@pytest.mark.parametrize("reason", KINDS)
def test_every_problem_says_what_is_wrong_and_what_to_do(reason: str) -> None:
    problem = Problem(reason)
    details = json.loads(problem.body("ab" * 16))
    assert details["status"] == problem.status >= 400
    assert details["title"].endswith(".")
    assert details["detail"] == problem.advice
    assert details["request_id"] == "ab" * 16
    assert ("Connection" in problem.headers) == (problem.status in (408, 413))
    assert ("Retry-After" in problem.headers) == (problem.status in (408, 429, 503))


def test_a_refused_image_is_told_by_its_reason_alone() -> None:
    problem = problem_of_image(ImageRefused("modality", "DICOM: Modality Doe^Jane"))
    assert (problem.reason, problem.status) == ("modality", 422)
    assert "Doe" not in str(problem) + problem.body("").decode()


@pytest.mark.parametrize(
    "reason", ["not-an-image", "undecodable", "too-large", "multi-frame", "no-pixel-data", "modality"]
)
def test_every_reason_for_which_a_decoder_refuses_has_a_problem(reason: str) -> None:
    assert reason in REASONS
    assert problem_of_image(ImageRefused(reason, "")).reason == reason


def test_a_reason_of_later_versions_is_a_file_that_cannot_be_decoded() -> None:
    assert problem_of_image(ImageRefused("new", "")).reason == "undecodable"


@pytest.mark.parametrize(
    ("status", "reason"),
    [(404, "no-such-page"), (405, "wrong-method"), (408, "unavailable"), (429, "busy"), (503, "unavailable"),
     (418, "bad-request"), (500, "defect"), (507, "defect"), (599, "defect"), (499, "bad-request")],
)  # fmt: skip
def test_a_status_of_a_library_becomes_a_problem(status: int, reason: str) -> None:
    assert problem_of_status(status).reason == reason
