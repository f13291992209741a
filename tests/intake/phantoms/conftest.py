from pathlib import Path

import pytest

from cxr_platform.intake.phantoms.collection import write_collection

SMALL = {"per_class": 4, "seed": 3, "size": 128}


@pytest.fixture(scope="package")
def small_collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds phantoms/ with four images per class, 128 pixels high."""
    out = tmp_path_factory.mktemp("data")
    write_collection(out, **SMALL)
    return out
