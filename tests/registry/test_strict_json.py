import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_platform.registry.strict_json import Mismatch, build, check_schema, json_tree, to_json


@dataclass(frozen=True)
class Inner:
    pair: tuple[float, float]


@dataclass(frozen=True)
class Outer:
    number: int
    share: float | None
    names: tuple[str, ...]
    inner: Inner
    by_name: Mapping[str, Inner]
    kind: Literal["a", "b"]


GOOD = {
    "number": 3,
    "share": None,
    "names": ["x"],
    "inner": {"pair": [1, 2.5]},
    "by_name": {"k": {"pair": [0, 0]}},
    "kind": "a",
}


def test_a_tree_becomes_typed_and_back():
    outer = build(Outer, json_tree(to_json(GOOD)))

    assert outer == Outer(3, None, ("x",), Inner((1.0, 2.5)), {"k": Inner((0.0, 0.0))}, "a")
    assert json_tree(to_json(asdict(outer))) == GOOD


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"number": 3.0}, "number to be of type int"),
        ({"number": True}, "number to be of type int"),
        ({"share": "much"}, "share to be a finite number"),
        ({"share": float("inf")}, "share to be a finite number"),
        ({"names": "x"}, "names to be a list"),
        ({"names": ["x", 1]}, r"names\[1\] to be of type str"),
        ({"inner": {"pair": [1]}}, "inner.pair to have 2 items"),
        ({"inner": []}, "inner to be an object"),
        ({"by_name": {"k": {"pair": [0, None]}}}, r"by_name.k.pair\[1\] to be a finite number"),
        ({"kind": "c"}, "kind to be 'a' or 'b'"),
        ({"inner": {"pair": [1, 2], "more": 1}}, "inner to have the keys pair"),
        ({"typo": 1}, "the top level to have the keys"),
    ],
)
def test_a_value_that_is_not_as_declared_is_named(change, expected):
    with pytest.raises(Mismatch, match=expected):
        build(Outer, {**GOOD, **change})


@pytest.mark.parametrize("key", GOOD)
def test_a_missing_key_is_named(key):
    with pytest.raises(Mismatch, match=f"the key {key}; received: none such"):
        build(Outer, {name: value for name, value in GOOD.items() if name != key})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"a": 1', "JSON"),
        (b"", "JSON"),
        (b'{"a": "\xff"}', "JSON in UTF-8"),
        (b'{"a": NaN}', "finite"),
        (b'{"a": {"b": 1, "b": 2}}', "the key b once"),
        (b"[" * 100_000, "JSON"),
    ],
)
def test_what_is_no_clean_json_is_refused(text, expected):
    with pytest.raises(Mismatch, match=expected):
        json_tree(text)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_tree_or_a_mismatch(content):
    with contextlib.suppress(Mismatch):
        tree = json_tree(content)
        assert json.loads(content) == tree


def test_a_number_that_is_not_finite_is_not_written():
    with pytest.raises(ValueError, match="Out of range"):
        to_json({"a": float("nan")})


@pytest.mark.parametrize("tree", [{}, {"schema_version": "1"}, {"schema_version": True}, [], {"schema_version": 0}])
def test_no_schema_version_is_refused(tree):
    with pytest.raises(Mismatch, match="schema_version 1"):
        check_schema(tree, 1)


def test_a_newer_schema_says_what_to_do():
    with pytest.raises(Mismatch) as refusal:
        check_schema({"schema_version": 2}, 1)
    assert "update" in refusal.value.advice
