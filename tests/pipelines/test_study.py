import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest

from pipelines.study import main
from tests.conftest import REPOSITORY
from tests.training.running_study import begin, finish, run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """The study `images`: two of four trials finished, one heard of just now, one that waits."""
    root = begin(tmp_path / "runs" / "images", ("scratch", "off-the-shelf"))
    finish(root, "scratch", 0, 3600)
    finish(root, "scratch", 1, 3600)
    run(root, "off-the-shelf", 0, updated=datetime.now(timezone.utc))
    return tmp_path / "runs"


def test_status_tells_states_nodes_time_left_and_cost(runs, capsys):
    assert main(["status", "images", "--runs", str(runs)]) == 0
    output = capsys.readouterr().out

    assert "images: 2/4 trials" in output
    assert "off-the-shelf fold 0" in output
    assert "with 1 at once as now" in output
    assert "guessed by relative cost: off-the-shelf" in output
    assert "CPU-hours: 4.03 so far" in output
    assert "GPU-hours: 0.50 so far" in output
    assert "stalled:" not in output
    assert "damaged" not in output


def test_status_for_a_program(runs, capsys):
    assert main(["status", "images", "--runs", str(runs), "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)

    assert tree["states"] == {"finished": 2, "running": 1, "stalled": 0, "waiting": 1, "unreadable": 0}
    assert tree["nodes"] == {"a": {"finished": 2}, "b": {"running": 1}}
    assert tree["mean_seconds"] == {"scratch": 3600.0}
    assert tree["running"][0]["strategy"] == "off-the-shelf"
    assert tree["running"][0]["epoch"] == 1
    assert tree["time_left"]["at_once"] == 1
    assert tree["gpu_hours"]["so_far"] == pytest.approx(0.25 * (7200 + 50) / 3600)


def test_a_path_names_a_study_too(runs, capsys, monkeypatch):
    monkeypatch.chdir(runs)
    for name in (str(runs / "images"), "images"):
        assert main(["status", name]) == 0
        assert "images: 2/4 trials" in capsys.readouterr().out


def test_no_study_is_one_paragraph_and_exit_code_2(runs, capsys):
    assert main(["status", "lungs", "--runs", str(runs)]) == 2
    error = capsys.readouterr().err

    assert "Expected the record of a study at" in error
    assert "runs/lungs/study.json" in error
    assert "no such file" in error


def test_the_verb_loads_no_heavy_library(runs):
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
