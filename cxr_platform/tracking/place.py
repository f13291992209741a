"""Where studies are logged, and MLflow's client for that place."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_platform.errors import ConfigError, StorageError, first_line

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = "mlruns"
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # with MLflow's own 7 a server that is not there is found out in minutes
    # MLflow wants to be told that a folder is meant: it would rather have a database, for which its client alone does
    # not bring SQLAlchemy. `mlflow migrate-filestore` moves a folder into one.
    "MLFLOW_ALLOW_FILE_STORE": "true",
}
"""Set unless the user has set them, before MLflow reads them."""


def tracking_uri(study_folder: Path, uri: str | None = None) -> str:
    """Where a study is logged: `uri`, else MLFLOW_TRACKING_URI, else the folder beside it; folders as file: URIs."""
    given = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if given and re.match(r"[a-z][a-z0-9+.-]*:", given):
        return given
    return (Path(given) if given else study_folder.absolute().parent / FOLDER).absolute().as_uri()


@contextmanager
def client_of(place: str) -> "Iterator[MlflowClient]":
    """A client of the MLflow at `place`; its errors, and those of the disk, leave as `StorageError`.

    Raises `ConfigError` where MLflow is not installed.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise ConfigError(
            "Expected MLflow, with which studies are logged.",
            received=error,
            advice="`make setup` installs it with the extra `tracking`; elsewhere: pip install mlflow-skinny.",
        ) from error
    try:
        yield MlflowClient(tracking_uri=place)
    except (MlflowException, OSError) as error:
        raise StorageError(
            f"Expected to be able to log to MLflow at {place}.",
            received=first_line(error),
            advice="Give --tracking-uri a folder that can be written or a server that runs; a database needs "
            "sqlalchemy, alembic and sqlparse. The study itself is untouched.",
        ) from error
