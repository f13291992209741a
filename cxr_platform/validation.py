"""Validation by pydantic of everything that comes from a file or a caller.

Problems become the errors of this package, with the file and key, what was expected, what was received and what to do.
`Record` is the base class of the JSON files that the platform writes (study.json, bundle.json, …). The settings of a
profile are dataclasses of the standard library (`config`), which `validate` checks from outside.
"""

import difflib
import json
import math
import re
import typing
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeAlias, TypeVar, cast

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from cxr_platform.errors import ConfigError, CxrError

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef,import-not-found]

T = TypeVar("T")
R = TypeVar("R", bound="Record")

UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")
"""Types of pydantic's problems that stand for a key that does not exist: told first, as it is often a misspelt one."""
SHOWN = 3
"""How many problems one error names."""


def _check_utc(time: datetime) -> datetime:
    if time.utcoffset() != timedelta(0):
        raise ValueError("a time in UTC")
    return time


UtcTime: TypeAlias = Annotated[AwareDatetime, AfterValidator(_check_utc)]
"""A time in UTC, in JSON as ISO text."""


class Record(BaseModel):
    """Base class of stored records: frozen, no unknown keys, no conversions between types, finite numbers."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, ser_json_inf_nan="constants"
    )

    def to_json(self) -> bytes:
        """Return readable JSON in UTF-8, one key per line; raise `ValueError` for a value of another type."""
        return (self.model_dump_json(indent=1, warnings="error") + "\n").encode()


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tree of a TOML file; raise `ConfigError` naming the file and the line if it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Expected a readable TOML file at {path}.", received=error.strerror) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"Expected TOML in {path}.", received=error) from error


def parse_json(content: bytes | str, where: str, error: type[CxrError] = ConfigError, advice: str = "") -> Any:
    """Return the plain values of JSON in UTF-8; raise `error` for bad syntax, a repeated key or a number like NaN."""

    def no_repeated_key(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        tree = dict(pairs)
        if len(tree) < len(pairs):
            keys = [key for key, _ in pairs]
            raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} twice")
        return tree

    def no_constant(name: str) -> NoReturn:
        raise ValueError(f"the number {name}, which is not finite")

    def finite(text: str) -> float:
        return float(text) if math.isfinite(float(text)) else no_constant(text)

    try:
        text = content if isinstance(content, str) else content.decode()
        return json.loads(text, object_pairs_hook=no_repeated_key, parse_constant=no_constant, parse_float=finite)
    except (ValueError, RecursionError) as problem:
        raise error(f"Expected JSON in {where}.", received=problem, advice=advice) from problem


def parse_record(
    kind: type[R],
    content: bytes | str,
    where: str,
    error: type[CxrError] = ConfigError,
    advice: str = "",
    *,
    complete: bool = False,
) -> R:
    """Return the `Record` in the JSON text `content`; raise `error` naming `where` and the key that is wrong.

    A `schema_version` other than the record's is reported before anything else. `complete` makes a missing key an
    error even if it has a default.
    """
    tree = parse_json(content, where, error, advice)
    if "schema_version" in kind.model_fields:
        check_schema_version(tree, kind.model_fields["schema_version"].default, where, error, advice)
    record = validate(kind, tree, where, error, advice)
    if complete and (missing := next(_missing_keys(record.model_dump(mode="json"), tree), None)):
        raise error(f"{where}: missing {missing}.", advice=advice)
    return record


def check_schema_version(tree: Any, known: int, where: str, error: type[CxrError], advice: str = "") -> None:
    """Raise `error` unless `tree` is of the schema version `known`; for a newer one, advise to update the platform."""
    received = tree.get("schema_version") if isinstance(tree, dict) else type(tree).__name__
    if type(received) is int and received > known:
        advice = f"A newer platform wrote it: update this one, or use a file of schema version {known}."
    if type(received) is not int or received != known:
        raise error(f"{where}: expected schema_version {known}.", received=repr(received), advice=advice)


def validate(kind: type[T], tree: Any, where: str, error: type[CxrError] = ConfigError, advice: str = "") -> T:
    """Return a `kind` (dataclass or `Record`) built from plain values, as they come from TOML or JSON.

    Types are strict: text is not a number, a number with a fraction is not a whole one. Raises `error`, whose text
    begins with `where` (the file) and the keys that lead to the value. `advice` is used where nothing better is known.
    """
    adapter: TypeAdapter[T] = _adapter(cast(Any, kind))
    try:
        result = adapter.validate_json(json.dumps(tree, default=str), strict=True)
    except ValidationError as problem:
        raise _described(kind, tree, problem.errors(), where, error, advice) from problem
    if (other := next(_values_without_json(tree), None)) is not None:  # what `str` made of it was taken for a string
        keys, value = other
        raise error(
            f"{where}: {'.'.join(keys)}: expected a string.", received=_typed(value), advice="Write it in quotes."
        )
    return result


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Return pydantic's validator of a type; making one costs a tenth of a second for a profile."""
    return TypeAdapter(kind)


def _values_without_json(tree: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the values that JSON does not have, as TOML's dates and times, each with the keys that lead to it."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _values_without_json(value, (*keys, str(key)))
    elif isinstance(tree, (list, tuple)):
        for i, value in enumerate(tree):
            yield from _values_without_json(value, (*keys, str(i)))
    elif tree is not None and not isinstance(tree, (str, int, float)):
        yield keys, tree


def _typed(value: Any) -> str:
    return f"the {type(value).__name__} {value}"


def field_names(kind: Any) -> list[str]:
    """Return the keys of a dataclass or a `Record`; empty for another type."""
    return list(getattr(kind, "model_fields", getattr(kind, "__dataclass_fields__", ())))


def _missing_keys(complete: Any, tree: Any, place: str = "") -> Iterator[str]:
    """Yield the keys of `complete`, as `key.key`, that `tree` lacks."""
    if isinstance(complete, dict):
        for key, value in complete.items():
            if key in tree:
                yield from _missing_keys(value, tree[key], f"{place}{key}.")
            else:
                yield f"{place}{key}"
    elif isinstance(complete, list):
        for i, (value, part) in enumerate(zip(complete, tree, strict=True)):
            yield from _missing_keys(value, part, f"{place}{i}.")


def _described(
    kind: Any, tree: Any, problems: list[ErrorDetails], where: str, error: type[CxrError], advice: str
) -> CxrError:
    """Return the first problem as an error; those of the same key are parts of it, others are named after it."""
    first = next((p for p in problems if p["type"] in UNKNOWN_KEY), problems[0])
    keys = _keys(tree, first["loc"])
    place = f"{where}: {'.'.join(keys[:-1])}" if keys[:-1] else where
    if first["type"] in UNKNOWN_KEY:
        known = field_names(_type_at(kind, keys[:-1]))
        near = difflib.get_close_matches(keys[-1], known, n=1)
        return error(
            f"{place}: expected one of the keys {', '.join(known)}.",
            received=repr(keys[-1]),
            advice=f"Did you mean {near[0]!r}?" if near else "Remove it or correct it.",
        )
    if first["type"] in ("missing", "missing_argument"):
        missing = [
            str(p["loc"][-1]) for p in problems if p["type"] == first["type"] and p["loc"][:-1] == first["loc"][:-1]
        ]
        return error(f"{place}: missing {', '.join(missing)}.", advice=advice or "Add it.")
    same = [p for p in problems if _keys(tree, p["loc"]) == keys]
    expected = " or ".join(dict.fromkeys(map(_expectation, same)))
    others = dict.fromkeys(".".join(_keys(tree, p["loc"])) for p in problems if p not in same)
    also = f"Also wrong: {', '.join(list(others)[:SHOWN])}." if others else ""
    is_rule = first["type"] == "value_error" and isinstance(first["input"], dict)
    without_json = dict(_values_without_json(tree)).get(tuple(keys))
    received = repr(first["input"]) if without_json is None else _typed(without_json)
    return error(
        f"{where}: {'.'.join(keys)}: expected {expected}." if keys else f"{where}: expected {expected}.",
        received=None if is_rule else received,
        advice=" ".join(filter(None, (advice, also))),
    )


def _expectation(problem: ErrorDetails) -> str:
    """Return what was expected, in the words of this package's errors."""
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    if problem["type"] in ("dict_type", "dataclass_type", "model_type"):
        return "a table"
    text = re.sub(r"^\w+ should (be|have|match) ", "", problem["msg"]).split(", got ")[0]
    return (
        text.replace("a valid integer", "a whole number").replace("a valid array", "a list").replace("a valid ", "a ")
    )


def _keys(tree: Any, location: tuple[int | str, ...]) -> list[str]:
    """Return `location` without the names that pydantic adds for the branches of a union."""
    keys = []
    for part in location:
        if part == "[key]":  # the key itself is wrong
            continue
        if isinstance(tree, dict):
            tree = tree.get(part)
        elif isinstance(tree, list) and isinstance(part, int):
            tree = tree[part] if part < len(tree) else None
        else:
            continue
        keys.append(str(part))
    return keys


def _type_at(kind: Any, keys: list[str]) -> Any:
    """Return the type to which `keys` lead from `kind`, without `None` and annotations."""
    origin = typing.get_origin(kind)
    options = [option for option in typing.get_args(kind) if option not in (type(None), Ellipsis)]
    if origin is typing.Annotated or (len(options) == 1 and not isinstance(origin, type)):
        return _type_at(options[0], keys)
    if not keys:
        return kind
    if names := field_names(kind):
        return _type_at(typing.get_type_hints(kind).get(keys[0], Any) if keys[0] in names else Any, keys[1:])
    if not options:
        return Any
    is_mapping = isinstance(origin, type) and issubclass(origin, Mapping)
    return _type_at(options[1 if is_mapping else 0], keys[1:])
