import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines import benchmark
from pipelines.benchmarks import overhead
from pipelines.benchmarks.overhead import (
    Idle,
    MeasuredTrial,
    TrialParts,
    compile_of_epochs,
    idle_shares,
    mean_parts,
    take_apart,
)
from pipelines.benchmarks.processes import Usage

BEFORE = {"imports": 5.0, "load": 1.0, "activations": 2.0}
FIRST = MeasuredTrial(wall=20.0, total=19.0, set_up=4.0, prediction=3.0, epochs=[8.0, 2.0, 2.0])
LATER = MeasuredTrial(wall=7.5, total=7.0, set_up=0.5, prediction=0.5, epochs=[2.0, 2.0, 2.0])


def test_the_first_trial_compiles_and_the_parts_add_up_to_its_seconds() -> None:
    first, later = take_apart([FIRST, LATER], BEFORE)
    assert (first.imports, first.load, first.activations) == (5.0, 1.0, 2.0)
    assert first.compile == 6.0 + 2.5
    assert (first.build, first.evaluation, first.steps, first.writing) == (4.0, 0.5, 6.0, 1.0)
    assert first.total == pytest.approx(20.0 + 8.0)
    assert (later.imports, later.compile, later.steps) == (0.0, 0.0, 6.0)
    assert later.total == pytest.approx(7.5)


def test_a_network_that_is_compiled_for_larger_images_is_compilation_too() -> None:
    epochs = [9.0, 2.0, 13.0, 4.0]
    grows = MeasuredTrial(wall=30.0, total=30.0, set_up=1.0, prediction=1.0, epochs=epochs)
    steady = MeasuredTrial(wall=14.0, total=14.0, set_up=1.0, prediction=1.0, epochs=[2.0, 2.0, 4.0, 4.0])
    first, later, _ = take_apart([grows, steady, steady], BEFORE)
    assert (first.compile, first.steps) == (7.0 + 9.0, 12.0)
    assert (later.compile, later.steps) == (0.0, 12.0)
    assert compile_of_epochs(epochs, [[2.0, 2.0, 4.0], [2.0, 2.0, 4.0, 4.0, 4.0]]) == 16.0
    assert compile_of_epochs([8.0, 2.0, 2.0], []) == 6.0


def test_later_folds_are_stated_by_their_mean() -> None:
    parts = [TrialParts(*[float(number)] * 8) for number in (1, 3)]
    assert mean_parts(parts) == TrialParts(*[2.0] * 8)


def test_the_tail_is_the_time_in_which_fewer_trials_than_cores_are_left() -> None:
    usage = Usage(20.0, [(0.0, 0.0), (4.0, 4.0), (10.0, 16.0), (16.0, 22.0), (20.0, 24.0)])
    idle = idle_shares(usage, ends=[8.0, 10.0, 16.0], begin=4.0, cores=2)
    assert idle.command == pytest.approx(1 - 24 / 40)
    assert idle.trials == pytest.approx(1 - 18 / 24)
    assert (idle.tail, idle.tail_seconds) == (0.5, 6.0)


def test_parts_and_idle_shares_are_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = SimpleNamespace(info=SimpleNamespace(images=84))
    monkeypatch.setattr(overhead, "manifest_of_size", lambda *_: manifest)
    monkeypatch.setattr(overhead, "trial_parts", lambda *_: take_apart([FIRST, LATER], BEFORE))
    monkeypatch.setattr(overhead, "_idle_of_study", lambda *_: Idle(0.4, 0.08, 0.5, 12.0, 90.0))
    file = tmp_path / "overhead.json"
    options = ["--manifest", "m", "--work", str(tmp_path), "--strategies", "scratch", "--json", str(file)]
    assert benchmark.main(["overhead", *options]) == 0
    text = capsys.readouterr().out
    assert "scratch, first fold" in text
    assert "scratch, later folds" in text
    assert "8.0% during the trials" in text
    result = json.loads(file.read_text())
    assert result["idle"]["trials"] == 0.08
    assert [trial["steps"] for trial in result["trials"]["scratch"]] == [6.0, 6.0]


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (["--profile", "nosuch"], "Expected a profile name"),
        (
            ["--strategies", "scratch,robust"],
            "Expected --strategies with training epochs to take apart.",
        ),
    ],
)
def test_what_cannot_be_taken_apart_is_refused_before_anything_runs(
    more: list[str], error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["overhead", "--manifest", str(tmp_path / "absent"), "--work", str(tmp_path / "work"), *more]
    assert benchmark.main(words) == 2
    assert capsys.readouterr().err.startswith(error)
    assert not (tmp_path / "work").exists()


def test_trials_that_fail_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(overhead, "manifest_of_size", lambda *_: SimpleNamespace(folder=tmp_path))
    monkeypatch.setattr(overhead, "PROBE", "raise ValueError('no weights')")
    assert benchmark.main(["overhead", "--manifest", "m", "--work", str(tmp_path), "--strategies", "scratch"]) == 2
    said = capfd.readouterr().err
    assert "Expected the trials of scratch to run. Received: ValueError: no weights.\n" in said
    assert said.count("ValueError") == 1
    assert "Traceback" not in said


def test_the_seed_reaches_the_process_of_the_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process states the values that it got in place of parts."""
    manifest = SimpleNamespace(folder=tmp_path, info=SimpleNamespace(images=84))
    monkeypatch.setattr(overhead, "manifest_of_size", lambda *_: manifest)
    monkeypatch.setattr(
        overhead,
        "PROBE",
        "import json, sys; from pathlib import Path; values = json.loads(sys.argv[1]); "
        "names = 'imports load activations build compile steps evaluation writing'.split(); "
        "Path(values['result']).write_text(json.dumps([dict.fromkeys(names, values['seed'])]))",
    )
    file = tmp_path / "overhead.json"
    words = ["overhead", "--manifest", "m", "--work", str(tmp_path), "--strategies", "scratch", "--skip-study"]
    assert benchmark.main([*words, "--seed", "7", "--json", str(file)]) == 0
    assert json.loads(file.read_text())["trials"]["scratch"][0]["steps"] == 7
