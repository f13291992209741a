"""Nested values by the path that leads to each, for places that know flat names only."""

from collections.abc import Iterator, Mapping
from typing import Any


def leaves(tree: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(keys from the outermost in, value) of everything in `tree` that is no mapping, in its order."""
    if not isinstance(tree, Mapping):
        yield path, tree
        return
    for key, value in tree.items():
        yield from leaves(value, *path, str(key))
