from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cxr_platform.errors import StorageError
from cxr_platform.storage import retry
from cxr_platform.storage.arrow_files import arrow_source, is_damage
from tests.storage.failing_store import answers_with_errors, errors_left, failing_store

TABLE = pa.table({"number": np.arange(1000), "noise": np.random.default_rng(0).random(1000)})


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.001)


def written(folder: Path) -> Path:
    content = pa.BufferOutputStream()
    pq.write_table(TABLE, content, row_group_size=100)
    (folder / "file.parquet").write_bytes(content.getvalue().to_pybytes())
    return folder / "file.parquet"


def test_a_file_of_a_store_is_read_although_the_store_answers_with_errors_for_a_while(tmp_path: Path) -> None:
    with failing_store(tmp_path.name) as store:
        file = written(store)
        answers_with_errors(3)
        assert pq.read_table(arrow_source(file)) == TABLE
        assert errors_left() == 0
        parts = []
        for batch in pq.ParquetFile(arrow_source(file)).iter_batches(100):
            parts.append(batch)
            answers_with_errors(2)
        assert pa.Table.from_batches(parts) == TABLE


def test_a_store_that_stays_away_is_no_damage_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0.05)
    with failing_store(tmp_path.name) as store:
        source = arrow_source(written(store))
        answers_with_errors(10**6)
        with pytest.raises(StorageError, match=r"able to read .*file\.parquet.*503"):
            pq.read_table(source)


def test_a_truncated_file_is_damaged_and_one_that_is_absent_or_forbidden_is_not(tmp_path: Path) -> None:
    file = written(tmp_path)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(pa.ArrowException) as damaged:
        pq.read_table(arrow_source(file))
    assert is_damage(damaged.value)
    file.unlink()
    with pytest.raises(FileNotFoundError) as absent:
        pq.read_table(arrow_source(file))
    assert not is_damage(absent.value)
    assert not is_damage(PermissionError("Forbidden"))
