"""Frozen dataclasses from JSON: every key is needed, none is unknown, every value is of its type and finite."""

import json
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, NoReturn, TypeVar

T = TypeVar("T")


class Mismatch(ValueError):
    """What a file does not keep to: `expected` begins with the place, such as `operating_point.zone[1]`."""

    def __init__(self, expected: str, received: object, advice: str = "") -> None:
        super().__init__(f"expected {expected}; received: {received}")
        self.expected = expected
        self.received = received
        self.advice = advice


def to_json(tree: Mapping[str, Any]) -> bytes:
    """Readable JSON; `ValueError` for a number that is not finite, `TypeError` for a value that is not plain."""
    return (json.dumps(tree, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()


def json_tree(content: bytes) -> Any:
    """The plain values of JSON in UTF-8 without doubled keys; else `Mismatch`."""
    try:
        return json.loads(content.decode(), object_pairs_hook=_once, parse_constant=_not_finite)
    except Mismatch:
        raise
    except (ValueError, RecursionError) as error:
        raise Mismatch("JSON in UTF-8", error) from error


def check_schema(tree: Any, known: int) -> None:
    """Before anything else is read: whether `tree` is of the schema that this code knows."""
    received = tree.get("schema_version") if isinstance(tree, dict) else type(tree).__name__
    if type(received) is not int or received != known:
        advice = f"A newer platform wrote it: update this one, or take a version of schema {known}."
        newer = type(received) is int and received > known
        raise Mismatch(f"schema_version {known}", repr(received), advice if newer else "")


def build(kind: type[T], tree: Any, where: str = "") -> T:
    """The dataclass `kind` from plain values, nested ones too; `Mismatch` names the place.

    Fields may be numbers, texts, booleans, literals, tuples, mappings by text, dataclasses, and any of these or `None`.
    """
    given, known = _table(tree, where), [f.name for f in fields(kind)]  # type: ignore[arg-type]
    for key in given:
        if key not in known:
            raise Mismatch(f"{where or 'the top level'} to have the keys {', '.join(known)}", repr(key))
    for key in known:
        if key not in given:
            raise Mismatch(f"the key {_join(where, key)}", "none such")
    hints = typing.get_type_hints(kind)
    return kind(**{key: _value(hints[key], given[key], _join(where, key)) for key in known})


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _value(_without_none(arguments), value, where)
    if origin is tuple:
        return tuple(_items(arguments, value, where))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return {key: _value(arguments[1], item, _join(where, key)) for key, item in _table(value, where).items()}
    if origin is Literal:
        return _literal(arguments, value, where)
    return value if hint is Any else _scalar(hint, value, where)


def _items(arguments: tuple[Any, ...], value: Any, where: str) -> Iterator[Any]:
    if type(value) is not list:
        raise Mismatch(f"{where} to be a list", repr(value))
    hints = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
    if len(hints) != len(value):
        raise Mismatch(f"{where} to have {len(hints)} items", repr(value))
    for i, (hint, item) in enumerate(zip(hints, value, strict=True)):
        yield _value(hint, item, f"{where}[{i}]")


def _literal(options: tuple[Any, ...], value: Any, where: str) -> Any:
    for option in options:
        if type(value) is type(option) and value == option:
            return value
    raise Mismatch(f"{where} to be {' or '.join(map(repr, options))}", repr(value))


def _scalar(hint: type, value: Any, where: str) -> Any:
    if hint is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if hint is not float and type(value) is hint:
        return value
    raise Mismatch(f"{where} to be {'a finite number' if hint is float else f'of type {hint.__name__}'}", repr(value))


def _table(tree: Any, where: str) -> dict[str, Any]:
    if type(tree) is not dict:
        raise Mismatch(f"{where or 'the top level'} to be an object", repr(tree))
    return tree


def _without_none(options: tuple[Any, ...]) -> Any:
    (option,) = (option for option in options if option is not type(None))
    return option


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        doubled = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise Mismatch(f"the key {doubled} once", "it twice")
    return tree


def _not_finite(name: str) -> NoReturn:
    raise Mismatch("finite numbers", name)
