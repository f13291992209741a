"""One type for both kinds of places: `pathlib.Path` for folders, and universal_pathlib's likeness of it for URIs.

What works on both: `/`, name, exists, is_file, is_dir, iterdir, glob, open, read_*, write_*, unlink. What an object
store has not: folders of their own, renaming in one instant, locks. These are in `files`, `lock` and `mirror`.
"""

import re
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

from cxr_platform.errors import ConfigError

URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)

FRESH = {"use_listings_cache": False}
"""What keeps a file system of fsspec from remembering listings."""

WITHOUT_OPTION = ("memory", "sftp", "ssh")
"""Schemes that remember none, and of which some hand every option on to a client that does not know it."""


def place(text: str, settled: bool = False) -> Path:
    """`text` as a place: a path as it stands, or a URI (`s3://bucket/folder`, `gs://…`, `file:///…`).

    What lies in a store is listed anew each time, as another node may have written there; `settled` says that nobody
    does, and a listing may be remembered. Credentials and endpoints come from the environment, as the store's own
    library reads them (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …). Raises `ConfigError` for a scheme that fsspec does not
    know or whose package is absent.
    """
    uri = URI.fullmatch(text)
    if uri is None:
        return Path(text)
    scheme, rest = uri.groups()
    if scheme in ("file", "local"):
        return Path(unquote(rest))
    try:
        from upath import UPath

        options = {} if settled or scheme.lower() in WITHOUT_OPTION else FRESH
        found = UPath(text.rstrip("/"), protocol=scheme, **options)
        found.fs  # noqa: B018 - imports the store's package
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"Expected a path, or a URI whose scheme fsspec knows and whose package is installed: {text}.",
            received=str(error).rstrip("."),
            advice="s3:// works as installed; others need their package, as gcsfs for gs:// and adlfs for abfs://.",
        ) from error
    return cast(Path, found)


def is_remote(where: Path) -> bool:
    """Whether `where` is in an object store and not in a file system that the operating system shows."""
    return not isinstance(where, Path)


def for_arrow(where: Path) -> tuple[str, Any]:
    """Path and `pyarrow.fs.FileSystem` of `where`, as Ray's `storage_path` and `storage_filesystem` want them."""
    if not is_remote(where):
        return str(where.absolute()), None
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    store: Any = where
    return store.path, PyFileSystem(FSSpecHandler(store.fs))


def absolute(where: Path) -> Path:
    """`where` as a process with another working directory finds it, such as a Ray worker."""
    return where if is_remote(where) else where.absolute()
