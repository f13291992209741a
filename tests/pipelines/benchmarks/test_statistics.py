import json

import numpy as np
import pytest

from pipelines.benchmark import main
from pipelines.benchmarks.statistics import ACCURACY, draw_correct, patients


def test_the_table_has_sizes_coverage_and_bias(capsys, tmp_path):
    file = tmp_path / "statistics.json"
    sizes = ["--studies", "10", "--patients", "40", "--replicates", "50"]
    assert main(["statistics", *sizes, "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    assert [len(result[name]) for name in ("sign_test", "equal_strategies", "picked")] == [5, 3, 4]

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "10 studies per line, 40 patients with 100 images"
    assert sum(line.startswith(" ") for line in lines) == 5 + 3 + 4


def test_patients_have_one_to_four_images():
    assert np.bincount(patients(6)).tolist() == [1, 2, 3, 4, 1, 2]


def test_strategies_are_right_as_often_as_asked_and_on_all_images_of_a_patient_or_none():
    group = patients(100)
    right = draw_correct(np.random.default_rng(0), group, (ACCURACY, 0.5), within=1.0, studies=200)

    assert right.mean(axis=(0, 1)) == pytest.approx([ACCURACY, 0.5], abs=0.02)
    assert all(len(np.unique(right[group == patient, 0, 0])) == 1 for patient in range(100))
