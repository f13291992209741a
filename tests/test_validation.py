import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from cxr_platform.config import Profile, Range, Settings, load_profile
from cxr_platform.errors import ConfigError, StudyError
from cxr_platform.validation import Record, field_names, parse_json, parse_record, read_toml, validate

WHERE = "file.json"


class Part(Record):
    weight: float = Field(gt=0)
    label: str = "none"


class Whole(Record):
    name: str
    count: int = Field(ge=1, le=9)
    parts: tuple[Part, ...] = ()
    by_name: dict[str, Part] = {}  # noqa: RUF012
    mode: Literal["fast", "slow"] = "fast"
    share: float | Literal["auto"] = "auto"
    limit: int | None = None


@dataclass(frozen=True)
class Table(Settings):
    size: Annotated[int, Range(ge=2, lt=10)]
    ratio: Annotated[float, Range(gt=0, le=1)] = 0.5


def problem(tree: Any, kind: Any = Whole, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(kind, tree, WHERE, **options)
    return str(caught.value)


def whole(**changes: Any) -> dict[str, Any]:
    return {"name": "a", "count": 1, **changes}


def test_a_record_is_built_from_plain_values() -> None:
    record = validate(Whole, whole(parts=[{"weight": 1.5}], by_name={"x": {"weight": 2}}, share=0.5), WHERE)
    assert record == Whole(name="a", count=1, parts=(Part(weight=1.5),), by_name={"x": Part(weight=2.0)}, share=0.5)


def test_a_record_is_frozen_and_its_json_is_read_back() -> None:
    record = Whole(name="ä", count=1, parts=(Part(weight=1.0),))
    assert parse_record(Whole, record.to_json(), WHERE) == record
    assert b"\xc3\xa4" in record.to_json()
    with pytest.raises(ValueError, match="frozen"):
        record.name = "b"  # type: ignore[misc]


def test_a_dataclass_of_settings_is_validated_from_outside() -> None:
    assert validate(Table, {"size": 3}, WHERE) == Table(3)


def test_an_unknown_key_is_named_with_the_nearest_one() -> None:
    assert problem(whole(cuont=2)) == (
        "file.json: expected one of the keys name, count, parts, by_name, mode, share, limit. "
        "Received: 'cuont'. Did you mean 'count'?"
    )
    assert problem({"size": 3, "ration": 1.0}, Table) == (
        "file.json: expected one of the keys size, ratio. Received: 'ration'. Did you mean 'ratio'?"
    )


def test_an_unknown_key_unlike_any_other_has_no_suggestion() -> None:
    assert problem(whole(zzz=2)).endswith("Received: 'zzz'. Remove it or correct it.")


def test_an_unknown_key_is_reported_before_the_missing_one_that_it_was_meant_for() -> None:
    assert "Did you mean 'name'?" in problem({"nmae": "a", "count": 1})


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"parts": [{"weight": 1.0}, {"weigth": 1.0}]}, "file.json: parts.1: expected one of the keys weight, label."),
        ({"by_name": {"x": {"weigth": 1.0}}}, "file.json: by_name.x: expected one of the keys weight, label."),
    ],
)
def test_an_unknown_key_in_a_nested_place_is_named_with_the_keys_of_that_place(
    changes: dict[str, Any], place: str
) -> None:
    message = problem(whole(**changes))
    assert message.startswith(place)
    assert message.endswith("Did you mean 'weight'?")


def test_an_unknown_key_of_a_profile_is_found_at_its_place() -> None:
    tree = load_profile("quick").to_dict()
    tree["training"]["scratch"]["epoch"] = 3
    assert problem(tree, Profile).startswith("file.json: training.scratch: expected one of the keys epochs, ")


def test_missing_keys_are_named_together() -> None:
    assert problem({}) == "file.json: missing name, count. Add it."
    assert problem(whole(parts=[{}])) == "file.json: parts.0: missing weight. Add it."
    assert problem({}, advice="Run it again.") == "file.json: missing name, count. Run it again."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 3}, "file.json: name: expected a string. Received: 3."),
        ({"count": "3"}, "file.json: count: expected a whole number. Received: '3'."),
        ({"count": True}, "file.json: count: expected a whole number. Received: True."),
        ({"count": 1.5}, "file.json: count: expected a whole number"),
        ({"parts": {}}, "file.json: parts: expected a"),
        ({"parts": [3]}, "file.json: parts.0: expected a table. Received: 3."),
        ({"parts": [{"weight": "1"}]}, "file.json: parts.0.weight: expected a number. Received: '1'."),
        ({"mode": "quick"}, "file.json: mode: expected 'fast' or 'slow'. Received: 'quick'."),
        ({"limit": "x"}, "file.json: limit: expected a whole number. Received: 'x'."),
    ],
)
def test_a_value_of_another_type_is_named_with_what_was_expected(changes: dict[str, Any], message: str) -> None:
    assert problem(whole(**changes)).startswith(message)


@pytest.mark.parametrize("value", [None, 3, "a", []])
def test_a_whole_of_another_type_is_named_without_a_key(value: Any) -> None:
    assert problem(value).startswith("file.json: expected a table. Received:")


@pytest.mark.parametrize(
    ("kind", "tree", "message"),
    [
        (Whole, whole(count=0), "file.json: count: expected greater than or equal to 1. Received: 0."),
        (Whole, whole(count=10), "file.json: count: expected less than or equal to 9. Received: 10."),
        (Whole, whole(parts=[{"weight": 0}]), "file.json: parts.0.weight: expected greater than 0. Received: 0."),
        (Table, {"size": 1}, "file.json: size: expected greater than or equal to 2. Received: 1."),
        (Table, {"size": 10}, "file.json: size: expected less than 10. Received: 10."),
        (Table, {"size": 3, "ratio": 0}, "file.json: ratio: expected greater than 0. Received: 0."),
    ],
)
def test_a_value_out_of_range_is_named_with_the_bound(kind: type, tree: dict[str, Any], message: str) -> None:
    assert problem(tree, kind).startswith(message)


def test_the_alternatives_of_a_union_are_named_once_at_their_key() -> None:
    message = problem(whole(share="half"))
    assert message.startswith("file.json: share: expected a number or 'auto'. Received: 'half'.")


def test_several_wrong_values_are_named_after_the_first() -> None:
    message = problem(whole(name=3, count=0, mode="x"), advice="Correct it.")
    assert message.startswith("file.json: name: expected a string. Received: 3.")
    assert message.endswith("Correct it. Also wrong: count, mode.")


def test_a_rule_over_several_values_is_named_by_its_own_sentence() -> None:
    tree = load_profile("quick").to_dict()
    tree["model"]["input_size"] = 2000
    assert problem(tree, Profile).startswith("file.json: expected model.input_size of at most")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    assert problem(whole(share=value)).startswith("file.json: share: expected a ")
    assert problem({"size": 3, "ratio": value}, Table).startswith("file.json: ratio: expected a ")


def test_the_error_is_of_the_type_that_the_caller_gives() -> None:
    with pytest.raises(StudyError, match="missing name, count"):
        validate(Whole, {}, WHERE, StudyError)
    with pytest.raises(StudyError, match="missing name, count"):
        parse_record(Whole, b"{}", WHERE, StudyError)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "Received: Expecting"),
        (b"\xff", "Received: "),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' twice"),
        ('{"x": {"a": 1, "a": 1}}', "the key 'a' twice"),
        ('{"a": NaN}', "the number NaN, which is not finite"),
        ("[Infinity]", "the number Infinity, which is not finite"),
        ('{"a": -Infinity}', "the number -Infinity, which is not finite"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_json_that_cannot_be_used_is_refused_with_the_file_and_the_reason(content: str | bytes, words: str) -> None:
    with pytest.raises(ConfigError, match=r"Expected JSON in file\.json\.") as caught:
        parse_json(content, WHERE)
    assert words in str(caught.value)


def test_json_is_read_from_bytes_and_text() -> None:
    tree = {"ä": [1, 2.5, None, True]}
    assert parse_json(json.dumps(tree), WHERE) == tree
    assert parse_json(json.dumps(tree, ensure_ascii=False).encode(), WHERE) == tree


def test_json_errors_have_the_type_and_advice_of_the_caller() -> None:
    with pytest.raises(StudyError, match="Run it again"):
        parse_json("{", WHERE, StudyError, "Run it again.")


def test_toml_is_read_and_errors_name_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("a = 1\n[b]\nc = 'x'\n")
    assert read_toml(file) == {"a": 1, "b": {"c": "x"}}
    file.write_text("a = 1\nb =\n")
    with pytest.raises(ConfigError, match=r"Expected TOML in .*a\.toml.*line 2"):
        read_toml(file)
    file.write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match="Expected TOML in"):
        read_toml(file)
    with pytest.raises(ConfigError, match=r"readable TOML file at .*b\.toml.*No such file"):
        read_toml(tmp_path / "b.toml")


def test_field_names_are_those_of_records_and_dataclasses() -> None:
    assert field_names(Part) == ["weight", "label"]
    assert field_names(Table) == ["size", "ratio"]
    assert field_names(int) == []
