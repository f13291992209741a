"""Records from JSON: errors name the file and the key, and the schema version comes first."""

import contextlib
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from cxr_platform.domain.interval import Interval, Rate
from cxr_platform.errors import ConfigError, StudyError
from cxr_platform.validation import Record, UtcTime, check_schema_version, parse_json, parse_record, read_toml, validate


class Inner(Record):
    pair: tuple[float, float]


class Outer(Record):
    schema_version: Literal[2] = 2
    number: int
    share: float | None
    names: tuple[str, ...]
    inner: Inner
    by_name: dict[str, Inner]
    kind: Literal["a", "b"]
    optional: str = "default"


GOOD = {
    "schema_version": 2,
    "number": 3,
    "share": None,
    "names": ["x"],
    "inner": {"pair": [1, 2.5]},
    "by_name": {"k": {"pair": [0, 0]}},
    "kind": "a",
    "optional": "given",
}


def parse(tree: object, *, complete: bool = False) -> Outer:
    return parse_record(Outer, json.dumps(tree), "file.json", StudyError, "Restore it.", complete=complete)


def test_a_record_is_written_and_read_again() -> None:
    record = parse(GOOD)
    assert record.inner.pair == (1.0, 2.5)
    assert json.loads(record.to_json()) == GOOD
    assert parse_record(Outer, record.to_json(), "file.json") == record


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"number": 3.5}, "number: expected a whole number"),
        ({"number": True}, "number: expected a whole number"),
        ({"share": "much"}, "share: expected a number"),
        ({"names": "x"}, "names: expected a"),
        ({"names": ["x", 1]}, "names.1: expected a string"),
        ({"inner": {"pair": [1]}}, "inner.pair: missing 1"),
        ({"inner": []}, "inner: expected a table"),
        ({"by_name": {"k": {"pair": [0, None]}}}, "by_name.k.pair.1: expected a number"),
        ({"kind": "c"}, "kind: expected 'a' or 'b'"),
        ({"inner": {"pair": [1, 2], "more": 1}}, "inner: expected one of the keys pair"),
        ({"typo": 1}, "file.json: expected one of the keys schema_version, number"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_its_key(change: dict[str, object], expected: str) -> None:
    with pytest.raises(StudyError) as error:
        parse({**GOOD, **change})
    assert expected in str(error.value)
    assert error.value.advice


@pytest.mark.parametrize("key", [key for key in GOOD if key not in ("schema_version", "optional")])
def test_a_missing_key_is_an_error_that_names_it(key: str) -> None:
    with pytest.raises(StudyError, match=rf"file\.json: missing {key}"):
        parse({name: value for name, value in GOOD.items() if name != key})


def test_a_complete_record_needs_keys_with_a_default_too() -> None:
    partial = {name: value for name, value in GOOD.items() if name != "optional"}
    assert parse(partial).optional == "default"
    with pytest.raises(StudyError, match="missing optional"):
        parse(partial, complete=True)


@pytest.mark.parametrize("tree", [{}, {"schema_version": "2"}, {"schema_version": True}, [], {"schema_version": 1}])
def test_another_schema_version_is_reported_before_anything_else(tree: object) -> None:
    with pytest.raises(StudyError, match="expected schema_version 2") as error:
        parse(tree)
    assert error.value.advice == "Restore it."


def test_for_a_newer_schema_version_the_advice_is_to_update() -> None:
    with pytest.raises(StudyError, match="update this one"):
        check_schema_version({"schema_version": 3}, 2, "file.json", StudyError, "Restore it.")


@pytest.mark.parametrize(
    ("text", "received"),
    [
        (b'{"a": 1', "delimiter"),
        (b"", "Expecting value"),
        (b'{"a": "\xff"}', "utf-8"),
        (b'{"a": NaN}', "NaN, which is not finite"),
        (b'{"a": {"b": 1, "b": 2}}', "the key 'b' twice"),
        (b"[" * 100_000, "recursion"),
    ],
)
def test_invalid_json_is_an_error(text: bytes, received: str) -> None:
    with pytest.raises(ConfigError, match=r"Expected JSON in file\.json") as error:
        parse_json(text, "file.json")
    assert received in str(error.value)


class Written(Record):
    text: str
    number: int = 0
    kind: Literal["a", "b"] = "a"
    names: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("text = 2026-01-31", "text: expected a string. Received: the date 2026-01-31. Write it in quotes."),
        ("text = 2026-01-31T12:00:00Z", "text: expected a string. Received: the datetime 2026-01-31 12:00:00+00:00."),
        ("text = 12:00:00", "text: expected a string. Received: the time 12:00:00."),
        ('text = ""\nnames = ["x", 2026-01-31]', "names.1: expected a string. Received: the date 2026-01-31."),
        ('text = ""\nnumber = 2026-01-31', "number: expected a whole number. Received: the date 2026-01-31."),
        ('text = ""\nkind = 2026-01-31', "kind: expected 'a' or 'b'. Received: the date 2026-01-31."),
        ('text = ""\nnames = 2026-01-31', "names: expected a list. Received: the date 2026-01-31."),
        ('text = ""\ntxet = 2026-01-31', "expected one of the keys text, number, kind, names. Received: 'txet'."),
        ("number = 2026-01-31", "missing text."),
    ],
)
def test_a_date_of_toml_is_not_taken_for_a_string(tmp_path: Path, toml: str, message: str) -> None:
    (tmp_path / "file.toml").write_text(toml)
    with pytest.raises(ConfigError) as error:
        validate(Written, read_toml(tmp_path / "file.toml"), "file.toml")
    assert message in str(error.value)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_tree_or_an_error(content: bytes) -> None:
    with contextlib.suppress(ConfigError):
        assert parse_json(content, "file.json") == json.loads(content)


class Times(Record):
    at: UtcTime


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("2026-01-31T12:00:00+00:00", True),
        ("2026-01-31T12:00:00.123+00:00", True),
        ("2026-01-31T12:00:00Z", True),
        ("2026-01-31T12:00:00", False),
        ("2026-01-31T12:00:00+01:00", False),
        ("soon", False),
        ("", False),
    ],
)
def test_a_time_must_be_in_utc(text: str, valid: bool) -> None:
    if valid:
        assert validate(Times, {"at": text}, "file.json").at.tzinfo is not None
    else:
        with pytest.raises(ConfigError, match="at: expected"):
            validate(Times, {"at": text}, "file.json")


def test_a_value_that_cannot_be_read_again_is_not_written_silently() -> None:
    class Number(Record):
        value: float

    invalid = Number(value=1.0).model_copy(update={"value": "1"})
    with pytest.raises(ValueError, match="Expected `float`"):
        invalid.to_json()
    undefined = Number(value=1.0).model_copy(update={"value": float("nan")})
    with pytest.raises(ConfigError, match="not finite"):
        parse_record(Number, undefined.to_json(), "file.json")


class Rates(Record):
    rate: Rate = Field(description="In percent.")


@pytest.mark.parametrize(
    ("interval", "valid"),
    [
        (Interval(50.0, 0.0, 100.0), True),
        (Interval(None), True),
        (Interval(101.0), False),
        (Interval(50.0, -1.0), False),
        (Interval(0.5, ratio=True), False),
    ],
)
def test_a_rate_is_in_percent(interval: Interval, valid: bool) -> None:
    tree = {"rate": {"value": interval.value, "low": interval.low, "ratio": interval.ratio}}
    if valid:
        assert validate(Rates, tree, "file.json").rate.value == interval.value
    else:
        with pytest.raises(ConfigError, match="rate: expected percent"):
            validate(Rates, tree, "file.json")


def test_times_of_records_compare_by_moment() -> None:
    read = validate(Times, {"at": "2026-01-31T12:00:00Z"}, "file.json")
    assert read == Times(at=datetime(2026, 1, 31, 12, tzinfo=timezone.utc))
