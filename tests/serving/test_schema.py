import json

import pytest
from pydantic import BaseModel, ValidationError

from cxr_platform.labels import CLASSES
from cxr_platform.serving.problems import Problem
from cxr_platform.serving.schema import BatchAnswer, ModelAnswer, ProblemAnswer, ScreenAnswer


def examples(kind: type[BaseModel]) -> list[dict[str, object]]:
    extra = kind.model_config["json_schema_extra"]
    assert isinstance(extra, dict)
    listed = extra["examples"]
    assert isinstance(listed, list)
    return listed  # type: ignore[return-value]


@pytest.mark.parametrize("kind", [ScreenAnswer, BatchAnswer, ModelAnswer, ProblemAnswer])
def test_every_example_is_what_the_server_would_answer(kind: type[BaseModel]) -> None:
    for example in examples(kind):
        answer = kind.model_validate_json(json.dumps(example))
        assert json.loads(answer.model_dump_json()) == example


def test_the_example_of_an_answer_is_consistent() -> None:
    answer = ScreenAnswer.model_validate_json(json.dumps(examples(ScreenAnswer)[0]))
    assert answer.probabilities is not None
    assert tuple(answer.probabilities) == CLASSES
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert max(answer.probabilities, key=answer.probabilities.__getitem__) == answer.label
    assert answer.covid19_probability == answer.probabilities["Covid19"] > answer.operating_point.zone[1]


def test_the_example_of_a_problem_has_the_texts_of_the_problem() -> None:
    (example,) = examples(ProblemAnswer)
    assert Problem(str(example["reason"])).details(str(example["request_id"])) == example


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValidationError):
        ScreenAnswer.model_validate_json(json.dumps({**examples(ScreenAnswer)[0], "patient": "x"}))
