import inspect
import pickle

import pytest

from cxr_platform import errors
from cxr_platform.errors import CxrError, ImageRefused, JobFailed, TrialsFailed

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, CxrError)]
PLAIN_KINDS = [kind for kind in KINDS if kind is not ImageRefused]


def through_a_process_boundary(error: CxrError) -> CxrError:
    copied: CxrError = pickle.loads(pickle.dumps(error))
    return copied


def test_a_text_says_what_was_expected_what_came_and_what_to_do() -> None:
    error = CxrError("Expected a folder at data/.", received="a file", advice="Name a folder.")
    assert str(error) == "Expected a folder at data/. Received: a file. Name a folder."


def test_a_text_leaves_out_what_is_not_known() -> None:
    assert str(CxrError("Expected a folder.")) == "Expected a folder."
    assert str(CxrError("Expected two folds.", received=0)) == "Expected two folds. Received: 0."
    assert str(CxrError("Expected a folder.", advice="Name one.")) == "Expected a folder. Name one."


@pytest.mark.parametrize("kind", PLAIN_KINDS)
def test_every_kind_survives_the_trip_between_processes(kind: type[CxrError]) -> None:
    error = kind("Expected four.", received=5, advice="Count again.")
    copied = through_a_process_boundary(error)
    assert type(copied) is kind
    assert (copied.problem, copied.received, copied.advice) == ("Expected four.", 5, "Count again.")
    assert (str(copied), repr(copied), copied.args) == (str(error), repr(error), error.args)


def test_a_refused_image_keeps_its_reason_on_the_trip() -> None:
    copied = through_a_process_boundary(ImageRefused("truncated", "320 of 4,096 bytes"))
    assert isinstance(copied, ImageRefused)
    assert (copied.reason, copied.detail) == ("truncated", "320 of 4,096 bytes")
    assert str(copied) == "truncated: 320 of 4,096 bytes"


def test_notes_added_on_the_way_survive_too() -> None:
    error = CxrError("Expected an image.")
    error.where = "trial scratch, fold 3"  # type: ignore[attr-defined]
    assert through_a_process_boundary(error).where == "trial scratch, fold 3"  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_user_can_put_right_exits_with_2_and_failed_trials_with_1(kind: type[CxrError]) -> None:
    assert kind.exit_code == (1 if kind in (TrialsFailed, JobFailed) else 2)


def test_the_tree_drawn_in_the_docstring_names_every_kind() -> None:
    drawn = errors.__doc__ or ""
    assert [kind.__name__ for kind in KINDS if kind.__name__ not in drawn] == []


def test_the_first_and_the_last_line_of_an_exception_leave_empty_lines_out() -> None:
    error = ValueError("\na.\n\nb: c\n")
    assert (errors.first_line(error), errors.last_line(error)) == ("a", "b: c")
    assert errors.first_line(ValueError()) == errors.last_line(ValueError(" ")) == "ValueError"


def test_the_last_line_of_no_text_says_that_there_is_none() -> None:
    assert errors.last_line("Traceback:\nexit code 3\n") == "exit code 3"
    assert errors.last_line("") == errors.last_line(None) == "no error message"
