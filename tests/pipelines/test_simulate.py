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


def test_a_study_s_own_times_on_more_gpus(study, capsys):
    found = tree(capsys, "--study", str(study), "--gpus", "1", "2", "3")

    assert found["trial_times"] == {"origin": "measured in 2 trials of images", "seconds": {"scratch": 3600.0}}
    assert [(row["gpus"], row["makespan_hours"], row["ratio"]) for row in found["forecasts"]] == [
        (1, 4.0, 1.0),
        (2, 2.0, 1.0),
        (3, 2.0, 1.5),
    ]


def test_a_study_s_times_scaled_to_another_profile(study, capsys):
    found = tree(capsys, "--study", str(study), "--profile", "paper", "--images", "3905", "--strategies", "all")

    assert "scaled to 3,905 images, 200 px, 10 folds" in found["trial_times"]["origin"]
    assert "guessed by relative cost: off-the-shelf" in found["trial_times"]["origin"]
    assert {row["trials"] for row in found["forecasts"]} == {80}


def test_stated_times(tmp_path, capsys):
    file = tmp_path / "times.toml"
    file.write_text('source = "a colleague"\n[seconds]\nscratch = 3600\noff-the-shelf = 36\n')
    found = tree(capsys, "--times", str(file), "--trials", "2", "20", "--gpus", "4", "--strategies", "scratch")

    assert found["trial_times"]["origin"].endswith("a colleague")
    assert [row["makespan_hours"] for row in found["forecasts"]] == [1.0, 5.0]


def test_the_table_says_that_a_rate_is_assumed(capsys):
    assert main(["--rate", "1000", "20000", "--stragglers", "0.05", "3", "--losses", "0.2"]) == 0
    output = capsys.readouterr().out

    assert output.startswith("Trial times: ASSUMED, not measured: 1000 images/s")
    assert "3,905 images, 200 px, 10 folds" in output
    assert "5 % of the trials take 3 times as long" in output
    assert "a GPU is lost 0.2 times an hour and back after 300 s" in output
    assert "The study's order is longest first already." in output


def test_the_table_says_whether_another_order_is_worth_it(tmp_path, capsys):
    file = tmp_path / "times.toml"
    file.write_text('source = "x"\n[seconds]\nscratch = 10\noff-the-shelf = 40\n')
    assert main(["--times", str(file), "--trials", "4", "--gpus", "3"]) == 0
    assert "worth changing" in capsys.readouterr().out


def test_the_same_seed_draws_the_same(capsys):
    words = ("--rate", "100", "2000", "--losses", "0.5", "--gpus", "4", "--repeats", "2")

    assert tree(capsys, *words) == tree(capsys, *words)
    assert tree(capsys, *words) != tree(capsys, *words, "--seed", "1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--study", "absent"], "Expected a study in"),
        (["--times", "absent.toml"], "readable TOML"),
        (["--rate", "0", "1"], "above 0"),
        (["--rate", "1", "1", "--gpus", "0"], "at least one GPU"),
        (["--rate", "1", "1", "--trials", "0"], "at least one trial"),
        (["--rate", "1", "1", "--repeats", "0"], "one repeat"),
        (["--rate", "1", "1", "--strategies", "trane"], "Expected a strategy"),
        (["--rate", "1", "1", "--profile", "trane"], "Expected a profile"),
    ],
)
def test_what_cannot_be_simulated_is_one_paragraph_and_exit_code_2(words, message, capsys):
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_exactly_one_source_of_times_is_needed(capsys):
    for words in ([], ["--rate", "1", "1", "--study", "x"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        capsys.readouterr()
