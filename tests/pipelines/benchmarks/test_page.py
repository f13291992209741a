import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pipelines import benchmark
from pipelines.benchmarks.trials import Measured, verdict

MACHINE = {
    "date": "2026-11-01",
    "hardware": {"processor": "Some CPU", "processors": 2, "gpus": []},
    "versions": {"python": "3.11.7", "keras": "3.15.1"},
}


def step_result(loop_to_bare: float, size: int = 96) -> dict[str, Any]:
    speed = {"strategy": "scratch", "precision": "float32", "depthwise": "float32"}
    speed |= {"loop": 100.0, "bare_step": 104.0, "model_fit": 90.0}
    speed |= {"loop_to_bare_step": loop_to_bare, "loop_to_model_fit": 1.11}
    settings = {"input_size": size, "deterministic": True, "batches": 12, "rounds": 5}
    return {"benchmark": "step", **MACHINE, **settings, "speeds": [speed]}


def growth_result() -> dict[str, Any]:
    series = {"of": "images", "amounts": [100, 400], "seconds": [10.0, 80.0], "exponent": 1.5}
    return {
        "benchmark": "growth",
        **MACHINE,
        "images": 400,
        "profile": "quick",
        "start_up_seconds": 20.0,
        "series": [series],
    }


def head_result() -> dict[str, Any]:
    difference = {"value": -0.5, "low": -1.5, "high": 0.5, "signed": True}
    facts = {"images": 400, "folds": 3, "protocol": "grouped", "input_size": 200}
    return {"benchmark": "head", **MACHINE, **facts, "regression": 86.0, "head": 85.5, "difference": difference}


def statistics_result() -> dict[str, Any]:
    facts = {"studies": 4000, "patients": 300, "replicates": 500, "images": 750, "strategies": 8}
    signs = [{"within": share, "images": 5.0 + 10 * share, "patients": 5.1} for share in (0.0, 1.0)]
    equal = [{"within": 0.5, "winner_only": 12.6, "all_pairs": 6.5, "coverage": 95.0}]
    picked = [{"spread": 2.0, "measured": 0.8, "corrected": -0.15, "coverage": 94.0}]
    return {
        **{"benchmark": "statistics", **MACHINE, **facts},
        **{"sign_test": signs, "equal_strategies": equal, "picked": picked},
    }


def recipe_result() -> dict[str, Any]:
    smoothed = {"training.label_smoothing": 0.1}
    measured = {"training_accuracy": 0.8, "training_loss": 0.5, "processor_seconds": 300.0}
    attempts = [{"settings": given, "seed": seed, **measured} for given in ({}, smoothed) for seed in (1, 2)]
    compared = [
        {"settings": given, "accuracy": {"value": 80.0 + gain, "low": 77.0, "high": 84.0},
         "difference": {"value": gain, "low": gain - 1, "high": gain + 1, "signed": True}}
        for given, gain in (({}, 0.0), (smoothed, 1.5))
    ]  # fmt: skip
    facts = {"images": {"trained": 1700, "predicted": 600}, "profile": "quick", "input_size": 96, "seeds": [1, 2]}
    return {"benchmark": "recipe", **MACHINE, **facts, "attempts": attempts, "compared": compared}


def study_result() -> dict[str, Any]:
    facts = {"images": 400, "folds": 3, "input_size": 96, "cores": 2, "profile": "quick", "stock_to_platform": 4.0}
    outcomes = {
        "platform": {"seconds": 100.0, "accuracy": {"scratch": 0.61}},
        "stock": {"seconds": 400.0, "accuracy": {"scratch": 0.52}},
    }
    return {"benchmark": "study", **MACHINE, **facts, **outcomes}


def overhead_result(idle: float) -> dict[str, Any]:
    first = {"imports": 5.0, "load": 1.0, "activations": 4.0, "build": 1.0, "compile": 2.0}
    first |= {"steps": 8.0, "evaluation": 0.5, "writing": 0.25}
    later = [first | {"imports": 0.0, "steps": steps} for steps in (8.0, 10.0)]
    shares = {"command": 0.3, "trials": idle, "tail": 0.5, "tail_seconds": 9.0, "command_seconds": 100.0}
    facts = {"images": 400, "profile": "quick", "engine": "ray"}
    return {"benchmark": "overhead", **MACHINE, **facts, "trials": {"scratch": [first, *later]}, "idle": shares}


def manifest_result() -> dict[str, Any]:
    decoding = {"files": 400, "bare": 100.0, "image": 70.0, "worker": 60.0, "worker_with_keypoints": 50.0}
    decoding |= {"two_processes": 1.8, "libraries": {"PNG": "opencv"}}
    decoding |= {"ratios": {"image": 0.7, "worker": 0.6, "worker_with_keypoints": 0.5}}
    builds = [
        {"images": 5000, "seconds": 60.0, "driver_mib": 500.0, "worker_mib": 400.0},
        {"images": 20000, "seconds": 250.0, "driver_mib": 600.0, "worker_mib": 400.0},
    ]
    return {"benchmark": "manifest", **MACHINE, "decoding": decoding, "builds": builds}


def archive_result() -> dict[str, Any]:
    names, keys = ("manifest", "study"), ("seconds", "driver_mib", "worker_mib", "read_gib", "written_gib")
    figures = {
        20_000: ((300, 700, 900, 1, 2), (400, 800, 1000, 3, 4)),
        112_120: ((1700, 900, 950, 6, 9), (2200, 900, 1400, 17, 20)),
    }
    stages = [
        {"name": name, "images": images, **dict(zip(keys, map(float, values), strict=True))}
        for images, rows in figures.items()
        for name, values in zip(names, rows, strict=True)
    ]
    use = {"hits": 1200, "misses": 40, "fetched_bytes": 2**30, "evictions": 3}
    caches = [{"images": images, **use} for images in figures]
    return {"benchmark": "archive", **MACHINE, "strategies": "off-the-shelf", "stages": stages, "caches": caches}


def streaming_result() -> dict[str, Any]:
    row = {"strategy": "off-the-shelf", "files": 106, "memory_rate": 1000.0, "files_rate": 950.0, "ratio": 0.95}
    row |= {"memory_accuracies": [84.2, 83.8], "files_accuracies": [83.0, 83.0]}
    row |= {"difference": -1.0, "low": -1.8, "high": -0.2}
    return {"benchmark": "streaming", **MACHINE, "images": 3376, "folds": 3, "per_file": 32, "strategies": [row]}


def test_memory_and_speed_of_studies_larger_than_memory_are_stated(tmp_path: Path) -> None:
    out = tmp_path / "page.md"
    assert benchmark.main(["page", *written(tmp_path, archive_result(), streaming_result()), "--out", str(out)]) == 0
    text = out.read_text()
    for row in (
        "| largest process of 112,120 images below 3072 MiB | 1400 MiB | yes |",
        "| it is at most 1.3 times the largest of 20,000 images | 1.40 | **no** |",
        "| manifest: memory at most 1.3 times | 1.06 | yes |",
        "| study: memory at most 1.3 times | 1.40 | **no** |",
        "| off-the-shelf: speed with activations in files at least 0.9 of memory | 0.95 | yes |",
        "| off-the-shelf: no significant difference of accuracy | -1.00 (-1.80 to -0.20) | **no** |",
        "| off-the-shelf: a loss of more than 1 point of accuracy is excluded | -1.80 | **no** |",
        "| 112,120 | study | 2200 | 900 | 1400 | 17.0 | 20.0 |",
        "| 112,120 | 1,200 | 40 | 1.0 | 3 |",
        "| off-the-shelf | 1000 | 950 | 0.95 | 84.00 | 83.00 | -1.00 (-1.80 to -0.20) |",
    ):
        assert row in text


def test_a_title_names_each_heading_once(tmp_path: Path) -> None:
    files = written(tmp_path, step_result(0.93), step_result(0.97), step_result(0.97, size=200))
    out = tmp_path / "page.md"
    assert benchmark.main(["page", *files, "--out", str(out)]) == 0
    title, *_ = out.read_text().splitlines()
    assert title == "# The training step at 96 px; The training step at 200 px, 2026-11-01"


def test_ratios_of_a_step_have_their_lowest_and_highest_where_they_were_kept(tmp_path: Path) -> None:
    result = step_result(0.97)
    result["speeds"].append({**result["speeds"][0], "ratios": [[0.9, 1.2], [0.97, 1.11], [1.04, 1.0]]})
    out = tmp_path / "page.md"
    assert benchmark.main(["page", *written(tmp_path, result), "--out", str(out)]) == 0
    text = out.read_text()
    assert "medians over the rounds, with the lowest and the highest." in text
    assert "| 90 | 0.97 | 1.11 |" in text
    assert "| 90 | 0.97 (0.90 to 1.04) | 1.11 (1.00 to 1.20) |" in text


def cluster_result() -> dict[str, Any]:
    node = {"name": "node 1", "trials": 4, "megabytes": 312.4, "fetched_mb": 210.2, "hits": 900, "misses": 158}
    differences = {"off-the-shelf": 2e-6, "scratch": 0.01}
    run = {
        "received": [{**node, "evictions": 0}],
        "seconds": 400.0,
        "differences": differences,
    }
    sizes = {"images": 20_000, "input_size": 96, "folds": 2, "image_mb": 184.3, "activation_mb": 217.6}
    return {"benchmark": "cluster", **MACHINE, **sizes, "store": True, "runs": [run]}


def trials_result() -> dict[str, Any]:
    few = Measured(100, 3, 9.0, 40.0, 34.0, 20.0, 20.0, 2.0, 0.05, 700.0, 0.2, 1.5)
    many = replace(few, trials=400, makespan=160.0, simulated=136.0, driver_cpu=8.0, status=0.8)
    sizes = {"few": asdict(few) | {"overhead": few.overhead}, "many": asdict(many) | {"overhead": many.overhead}}
    return {"benchmark": "trials", **MACHINE, "seconds": 1.0, **sizes, "verdict": verdict(few, many)}


def test_a_study_on_several_nodes_and_one_of_many_trials_are_stated(tmp_path: Path) -> None:
    out = tmp_path / "page.md"
    assert benchmark.main(["page", *written(tmp_path, cluster_result(), trials_result()), "--out", str(out)]) == 0
    text = out.read_text()
    for row in (
        "| off-the-shelf: probabilities of 1 nodes differ from one node's by at most 0.001 | 2e-06 | yes |",
        "| scratch: probabilities of 1 nodes differ from one node's by at most 0.001 | 0.01 | **no** |",
        "| 1 | node 1 | 4 | 312 | 210 | 900 | 158 | 0 |",
        "| the driver's work and the status grow at most linearly | nothing worse than linear | yes |",
        "| overhead per trial, ms | 180 | 180 |",
        "## 400 trials",
    ):
        assert row in text
    assert "20,000 images at 96 px × 2 folds; manifest and study in an object store." in text


def written(folder: Path, *results: dict[str, Any]) -> list[str]:
    files = [folder / f"{number}.json" for number in range(len(results))]
    for file, result in zip(files, results, strict=True):
        file.write_text(json.dumps(result))
    return [str(file) for file in files]


def test_the_page_has_a_row_for_each_claim_and_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = [
        head_result(),
        growth_result(),
        manifest_result(),
        overhead_result(0.05),
        step_result(0.93),
        study_result(),
    ]
    out = tmp_path / "results" / "page.md"
    assert benchmark.main(["page", *written(tmp_path, *results), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    text = out.read_text()
    assert "2 × Some CPU, no GPU; python 3.11.7, keras 3.15.1" in text
    for row in (
        "| a study at least 5 times as fast as a stock script | 4.0 times | **no** |",
        "| scratch, 96 px: loop at least 0.95 of the bare step | 0.93 | **no** |",
        "| scratch, 96 px: loop at least 1 of `model.fit` | 1.11 | yes |",
        "| less than 10% of the cores idle during the trials of a study | 5.0% | yes |",
        "| decoding of 400 files with all that an image needs at least 0.8 of a bare loop | 0.70 | **no** |",
        "| two processes decode 400 files at least 1.7 times as fast | 1.80 | yes |",
        "| memory of a manifest at most 1.3 times that of a quarter of its images | 1.20 | yes |",
        "| time against images: exponent at most 1.1 | 1.50 | **no** |",
        "| off-the-shelf at 200 px at least as accurate as a logistic regression on the same features | "
        "−0.50 (−1.50 to +0.50) points | **no** |",
        "| off-the-shelf | 85.50 |",
        "| scratch | 0.610 | 0.520 |",
        "| scratch, later folds | 0.00 | 1.00 | 4.00 | 1.00 | 2.00 | 9.00 | 0.50 | 0.25 | 17.75 |",
        "| 20,000 | 250 | 12.50 | 600 | 400 |",
        "| images | 100: 10 s, 400: 80 s | 1.50 |",
    ):
        assert row in text
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert [heading.split()[1] for heading in headings] == ["A", "The", "Where", "Decoding", "Growth", "The"]


def test_simulations_are_held_against_what_is_wanted_of_them(tmp_path: Path) -> None:
    out = tmp_path / "page.md"
    assert benchmark.main(["page", *written(tmp_path, statistics_result()), "--out", str(out)]) == 0
    for row in (
        "| family-wise error with equal strategies 3 to 6% | 6.50 to 6.50% | **no** |",
        "| error of the sign test over patients 4 to 6% | 5.10 to 5.10% | yes |",
        "| corrected accuracy of the best unbiased within 0.2 points | -0.15 points | yes |",
        "| 1 | 15.00 | 5.10 |",
    ):
        assert row in out.read_text()


def test_settings_that_were_tried_stand_beside_those_of_the_profile_without_a_claim(tmp_path: Path) -> None:
    out = tmp_path / "page.md"
    assert benchmark.main(["page", *written(tmp_path, recipe_result()), "--out", str(out)]) == 0
    text = out.read_text()
    for row in (
        "| those of quick | 80.00 (77.00 to 84.00) |  | 0.800 | 0.500 | 300 |",
        '| {"training.label_smoothing": 0.1} | 81.50 (77.00 to 84.00) | +1.50 (+0.50 to +2.50) | 0.800 | 0.500 | 300 |',
    ):
        assert row in text
    assert "means over 2 seeds" in text
    assert "## Settings of the training from scratch on 1,700 images" in text
    assert "| wanted |" not in text


def test_notes_by_hand_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "page.md"
    files = written(tmp_path, step_result(0.93), step_result(0.97, size=200))
    benchmark.main(["page", files[0], "--out", str(out)])
    out.write_text(out.read_text() + "\n## Notes\n\nA remark.\n")
    benchmark.main(["page", *files, "--out", str(out)])
    assert out.read_text().endswith("\n## Notes\n\nA remark.\n")
    assert "The training step at 200 px" in out.read_text()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"hardware": {"processor": "Another", "processors": 8, "gpus": []}}, "Expected the hardware of"),
        ({"versions": {"keras": "3.16"}}, "Expected the versions of"),
        ({"benchmark": "gpu"}, "of one of: study, step"),
        ({"speeds": [{"strategy": "scratch"}]}, "Expected a complete result of this version"),
        ({"speeds": None}, "Expected a complete result of this version"),
    ],
)
def test_results_that_do_not_belong_together_are_refused(
    change: dict[str, Any], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = written(tmp_path, step_result(0.93), step_result(0.97, size=200) | change)
    assert benchmark.main(["page", *files, "--out", str(tmp_path / "page.md")]) == 2
    message = capsys.readouterr().err
    assert complaint in message
    assert "1.json" in message
    assert not (tmp_path / "page.md").exists()


@pytest.mark.parametrize("content", ["no JSON", "[1]", '{"date": "2026-11-01"}', '{"benchmark": "step"}'])
def test_a_file_that_no_benchmark_wrote_is_refused(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.json").write_text(content)
    assert benchmark.main(["page", str(tmp_path / "other.json"), "--out", str(tmp_path / "page.md")]) == 2
    assert "other.json" in capsys.readouterr().err
