import json
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path

import pytest
from rich.console import Console

from cxr_platform.domain.study import CacheUse
from cxr_platform.storage.files import upload_folder
from cxr_platform.storage.paths import parse_path
from cxr_platform.training import status
from cxr_platform.training.status import StudyStatus, read_status
from pipelines.study import SHOWN, duration, main, plain_status, status_lines, status_tables
from tests.conftest import REPOSITORY
from tests.storage.failing_store import failing_store
from tests.storage.object_store import folder
from tests.study_records import trial_state
from tests.training.running_study import NOW, ago, begin, finish, run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """The study `images`: two of four trials finished, one heard of just now, one that waits."""
    root = begin(tmp_path / "runs" / "images", ("scratch", "off-the-shelf"))
    finish(root, "scratch", 0, 3600)
    finish(root, "scratch", 1, 3600)
    run(root, "off-the-shelf", 0, updated=datetime.now(timezone.utc))
    return tmp_path / "runs"


def test_status_prints_states_nodes_time_left_and_cost(runs, capsys):
    assert main(["status", "images", "--runs", str(runs)]) == 0
    output = capsys.readouterr().out

    assert "images: 2/4 trials" in output
    assert "off-the-shelf fold 0" in output
    assert "with 1 at a time as now" in output
    assert "estimated by relative cost: off-the-shelf" in output
    assert "CPU-hours: 4.03 so far" in output
    assert "GPU-hours: 0.50 so far" in output
    assert "stalled:" not in output
    assert "damaged" not in output


def test_status_as_json(runs, capsys):
    assert main(["status", "images", "--runs", str(runs), "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)

    assert tree["states"] == {"finished": 2, "running": 1, "stalled": 0, "waiting": 1, "unreadable": 0}
    assert tree["nodes"] == {"a": {"finished": 2}, "b": {"running": 1}}
    assert tree["mean_seconds"] == {"scratch": 3600.0}
    assert tree["running"][0]["strategy"] == "off-the-shelf"
    assert tree["running"][0]["epoch"] == 1
    assert tree["time_left"]["at_once"] == 1
    assert tree["gpu_hours"]["so_far"] == pytest.approx(0.25 * (7200 + 50) / 3600)


def test_a_study_can_be_named_by_its_path(runs, capsys, monkeypatch):
    monkeypatch.chdir(runs)
    for name in (str(runs / "images"), "images"):
        assert main(["status", name]) == 0
        assert "images: 2/4 trials" in capsys.readouterr().out


def test_a_missing_study_is_exit_code_2(runs, capsys):
    assert main(["status", "lungs", "--runs", str(runs)]) == 2
    error = capsys.readouterr().err

    assert "Expected the record of a study at" in error
    assert "runs/lungs/study.json" in error
    assert "no such file" in error


def test_a_store_that_may_not_be_listed_is_named(tmp_path, capsys, monkeypatch):
    def refuse(*_):
        raise PermissionError("Access Denied")

    with failing_store(tmp_path.name) as root:
        monkeypatch.setattr(type(root.fs), "exists", refuse)
        assert main(["status", "images", "--runs", str(root)]) == 2
    assert f"able to read {root / 'images'}. Received: Access Denied" in capsys.readouterr().err


def test_status_imports_no_heavy_library(runs):
    code = "\n".join(
        [
            "import sys",
            "from pipelines.study import main",
            f"main(['status', {str(runs / 'images')!r}])",
            "print([n for n in ('tensorflow', 'keras', 'ray', 'pandas', 'pyarrow') if n in sys.modules])",
        ]
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def printed(status: StudyStatus) -> str:
    console = Console(width=120, record=True, markup=False)
    for part in (*status_tables(status), *status_lines(status)):
        console.print(part)
    return console.export_text()


def test_a_stalled_trial_is_listed_with_the_time_of_its_last_update(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",))
    run(root, "scratch", 0, updated=ago(minutes=12))
    text = printed(read_status(root, NOW))

    assert "12 min ago" in text
    assert "1 stalled: no update for five minutes, their node was probably lost." in text
    assert "by the epochs of the running ones" in text


class TenMinutesAhead(datetime):
    """The clock of a machine."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        return datetime.now(tz) + timedelta(minutes=10)


@pytest.mark.parametrize("place", ["a folder", "a store"])
def test_a_reader_whose_clock_is_ahead_sees_who_is_running(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    root = begin(tmp_path / "s", ("scratch",))
    run(root, "scratch", 0, updated=datetime.now(timezone.utc))
    if place == "a store":
        request.getfixturevalue("store")
        upload_folder(root, folder("ahead"), "study.json")
        root = folder("ahead")
    monkeypatch.setattr(status, "datetime", TenMinutesAhead)
    result = read_status(root)
    assert (result.counts()["running"], result.by_own_clock) == (1, False)


def test_the_text_says_that_the_clock_is_this_machine_s_where_the_storage_tells_none(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",))
    run(root, "scratch", 0, updated=ago(minutes=12))
    store = parse_path(f"memory://{tmp_path.name}/s")
    upload_folder(root, store, "study.json")
    assert "by this machine's clock" not in printed(read_status(root))
    result = replace(read_status(store), stalled=[trial_state("scratch", 0)])
    assert "1 stalled: no update for five minutes by this machine's clock, their node" in " ".join(status_lines(result))
    assert plain_status(result)["by_own_clock"] is True


def test_no_time_left_is_known_before_the_end_of_the_first_epoch(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",))
    run(root, "scratch", 0, epoch=0, seconds=0.0)
    assert "not known before the end of the first epoch" in printed(read_status(root, NOW))


def test_a_trial_with_a_damaged_file_is_listed(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",))
    run(root, "scratch", 1).write_text("{")
    text = printed(read_status(root, NOW))

    assert "1 with a damaged file, counted as not started: scratch fold 1." in text
    assert "unreadable" in text


def test_a_finished_study_has_no_time_left(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",))
    for fold in (0, 1):
        finish(root, "scratch", fold)
    text = printed(read_status(root, NOW))

    assert "s: 2/2 trials" in text
    assert "every trial is finished" in text
    assert "Not finished" not in text


def test_the_use_of_caches_is_shown_where_trials_state_it(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",))
    finish(root, "scratch", 0)  # of an earlier version
    assert "Caches" not in printed(read_status(root, NOW))
    assert plain_status(read_status(root, NOW))["cache"] is None
    finish(root, "scratch", 1, cache=CacheUse(hits=3, misses=1, fetched_bytes=2**29))
    assert "Caches of the nodes: 3 of 4 reads found their file, 0.5 GiB fetched or made" in printed(
        read_status(root, NOW)
    )
    assert plain_status(read_status(root, NOW))["cache"] == {
        "hits": 3,
        "misses": 1,
        "fetched_bytes": 2**29,
        "evictions": 0,
    }


def test_only_the_first_running_trials_are_listed(tmp_path: Path) -> None:
    root = begin(tmp_path / "s", ("scratch",), folds=SHOWN + 5)
    for fold in range(SHOWN + 5):
        run(root, "scratch", fold)
    text = printed(read_status(root, NOW))

    assert f"the first {SHOWN} of {SHOWN + 5}" in text
    assert text.count("1/4") == SHOWN


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (360000, "100.0 h")],
)
def test_a_duration_is_in_seconds_minutes_or_hours(seconds: float, text: str) -> None:
    assert duration(seconds) == text
