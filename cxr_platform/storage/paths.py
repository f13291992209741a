"""Paths in file systems and object stores: `pathlib.Path`, or `upath.UPath` with the same methods for a URI.

Both have `/`, `name`, `exists`, `is_file`, `is_dir`, `iterdir`, `glob`, `open`, `read_*`, `write_*` and `unlink`.
An object store has no empty folders, no atomic renaming and no locks; `files`, `lock` and `mirror` replace them.
"""

import re
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

from cxr_platform.errors import ConfigError

URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
NO_LISTINGS_CACHE = {"use_listings_cache": False}
"""Option of fsspec's file systems."""
WITHOUT_LISTINGS_CACHE = ("memory", "sftp", "ssh")
"""Schemes that cache no listings. Some of them pass every option on to a client that rejects unknown ones."""


def parse_path(text: str, cache_listings: bool = False) -> Path:
    """Return the path in `text`, or the `UPath` of a URI (`s3://bucket/folder`, `gs://…`, `file:///…`).

    Folders of a store are listed anew each time, because another node may have written there, unless `cache_listings`.
    Credentials and endpoints come from the environment, as the store's own library reads them (AWS_ENDPOINT_URL,
    AWS_ACCESS_KEY_ID, …). Raises `ConfigError` if fsspec does not know the scheme or its package is not installed.
    """
    uri = URI.fullmatch(text)
    if uri is None:
        return Path(text)
    scheme, rest = uri.groups()
    if scheme in ("file", "local"):
        return Path(unquote(rest))
    try:
        from upath import UPath

        options = {} if cache_listings or scheme.lower() in WITHOUT_LISTINGS_CACHE else NO_LISTINGS_CACHE
        path = UPath(text.rstrip("/"), protocol=scheme, **options)
        path.fs  # noqa: B018 - imports the store's package
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"Expected a path, or a URI whose scheme fsspec knows and whose package is installed: {text}.",
            received=str(error).rstrip("."),
            advice="s3:// works as installed; others need their package, such as gcsfs for gs:// and adlfs for abfs://.",
        ) from error
    return cast(Path, path)


def is_remote(path: Path) -> bool:
    """Return True if `path` is in an object store, not in a file system of this machine."""
    return not isinstance(path, Path)


def arrow_filesystem(path: Path) -> tuple[str, Any]:
    """Return `path` and its `pyarrow.fs.FileSystem`, for Ray's `storage_path` and `storage_filesystem`."""
    if not is_remote(path):
        return str(path.absolute()), None
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    store: Any = path
    return store.path, PyFileSystem(FSSpecHandler(store.fs))


def absolute(path: Path) -> Path:
    """Return `path` so that a process with another working directory, such as a Ray worker, finds it."""
    return path if is_remote(path) else path.absolute()
