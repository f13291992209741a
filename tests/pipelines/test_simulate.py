import json
from pathlib import Path

import pytest

from pipelines.simulate import main
from tests.training.running_study import begin, finish


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Four equal trials of an hour each are left to simulate."""
    root = begin(tmp_path / "images", ("scratch",), folds=4)
    for fold in (0, 1):
        finish(root, "scratch", fold, 3600)
    return root


def tree(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_trial_times_measured_in_a_study_on_more_gpus(study, capsys):
    output = tree(capsys, "--study", str(study), "--gpus", "1", "2", "3")

    assert output["trial_times"] == {"origin": "measured in 2 trials of images", "seconds": {"scratch": 3600.0}}
    assert [(row["gpus"], row["makespan_hours"], row["ratio"]) for row in output["forecasts"]] == [
        (1, 4.0, 1.0),
        (2, 2.0, 1.0),
        (3, 2.0, 1.5),
    ]


def test_measured_trial_times_scaled_to_another_profile(study, capsys):
    output = tree(capsys, "--study", str(study), "--profile", "paper", "--images", "3905", "--strategies", "all")

    assert "scaled to 3,905 images, 200 px, 10 folds" in output["trial_times"]["origin"]
    assert "guessed by relative cost: off-the-shelf" in output["trial_times"]["origin"]
    assert {row["trials"] for row in output["forecasts"]} == {80}


def test_trial_times_from_a_file(tmp_path, capsys):
    file = tmp_path / "times.toml"
    file.write_text('source = "a measurement"\n[seconds]\nscratch = 3600\noff-the-shelf = 36\n')
    output = tree(capsys, "--times", str(file), "--trials", "2", "20", "--gpus", "4", "--strategies", "scratch")

    assert output["trial_times"]["origin"].endswith("a measurement")
    assert [row["makespan_hours"] for row in output["forecasts"]] == [1.0, 5.0]


def test_the_output_says_that_rates_are_assumed(capsys):
    assert main(["--rate", "1000", "20000", "--stragglers", "0.05", "3", "--losses", "0.2"]) == 0
    output = capsys.readouterr().out

    assert output.startswith("Trial times: ASSUMED, not measured: 1000 images/s")
    assert "3,905 images, 200 px, 10 folds" in output
    assert "5 % of the trials take 3 times as long" in output
    assert "a GPU is lost 0.2 times per hour and back after 300 s" in output
    assert "The study's order is longest first already." in output


def test_the_output_says_whether_another_order_is_worth_it(tmp_path, capsys):
    file = tmp_path / "times.toml"
    file.write_text('source = "x"\n[seconds]\nscratch = 10\noff-the-shelf = 40\n')
    assert main(["--times", str(file), "--trials", "4", "--gpus", "3"]) == 0
    assert "worth changing" in capsys.readouterr().out


def test_memory_disk_and_volume_are_printed_if_asked_for(study, capsys):
    words = ("--rate", "1000", "20000", "--images", "112120", "--gpus", "1", "--trials-per-gpu", "2", "--needs")
    assert main(list(words)) == 0
    output = capsys.readouterr().out
    needs = tree(capsys, *words)["needs_gib"]
    assert "2 trials at a time on a node" in output
    assert f"{needs['activations']:,.1f}" in output
    assert needs["volume"] > needs["activations"] > 100
    assert "needs_gib" not in tree(capsys, "--rate", "1000", "20000", "--gpus", "1")
    assert tree(capsys, "--study", str(study), "--needs")["needs_gib"]["manifest"] == 56 * 200**2 / 2**30


def test_the_same_seed_gives_the_same_forecast(capsys):
    words = ("--rate", "100", "2000", "--losses", "0.5", "--gpus", "4", "--repeats", "2")

    assert tree(capsys, *words) == tree(capsys, *words)
    assert tree(capsys, *words) != tree(capsys, *words, "--seed", "1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--study", "absent"], "Expected the record of a study at absent"),
        (["--times", "absent.toml"], "readable TOML"),
        (["--rate", "0", "1"], "above 0"),
        (["--rate", "1", "1", "--gpus", "0"], "at least one GPU"),
        (["--rate", "1", "1", "--trials", "0"], "at least one trial"),
        (["--rate", "1", "1", "--repeats", "0"], "one repeat"),
        (["--rate", "1", "1", "--images", "0", "--needs"], "at least one image"),
        (["--times", "absent.toml", "--images", "0.4"], "at least one image"),
        (["--rate", "1", "1", "--images", "nan"], "at least one image"),
        (["--rate", "1", "1", "--strategies", "trane"], "Expected a strategy"),
        (["--rate", "1", "1", "--profile", "trane"], "Expected a profile"),
    ],
)
def test_an_impossible_simulation_is_exit_code_2(words, message, capsys):
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_exactly_one_source_of_trial_times_is_required(capsys):
    for words in ([], ["--rate", "1", "1", "--study", "x"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        capsys.readouterr()
