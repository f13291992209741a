from pathlib import Path
from typing import Any

from cxr_platform.manifest.store import open_manifest
from pipelines.benchmarks.gpu_study_results import gpu_study_page, study_result

BENCHMARK = {
    "strategy": "scratch",
    "input_size": 200,
    "limits": {
        "work": {"macs": 261e6, "outputs": 5.5e6, "flop": 1.57e9},
        "device": {"mixed_bfloat16": {"flop": 7e14, "moved_bytes": 3e12}},
        "images_per_second": {"mixed_bfloat16": {"arithmetic_limit": 445860.0, "memory_limit": 19480.0}},
    },
    "speeds": [
        {
            "batch_size": 32,
            "precision": "mixed_bfloat16",
            "loop": 9000.0,
            "bare_step": 9100.0,
            "model_fit": 3000.0,
            "loop_to_model_fit": 3.0,
            "of_limit": 0.46,
        }
    ],
    "at_once": [
        {"trials": 1, "images_per_second": 9000.0, "trials_per_hour": 150.0, "mps": False},
        {"trials": 4, "images_per_second": 12000.0, "trials_per_hour": 200.0, "mps": False},
    ],
}

STUDY: dict[str, Any] = {
    "profile": "paper",
    "images": 56,
    "synthetic": True,
    "input_size": 32,
    "jpeg_quality": 95,
    "folds": 2,
    "protocol": "grouped",
    "precision": ["mixed_bfloat16"],
    "content_hash": "0123456789abcdef" * 4,
    "finished": 2,
    "trials": 2,
    "calls": [{"seconds": 300.0, "processes": 4, "gpu_busy": 0.91}],
    "strategies": {"scratch": {"trials": 2, "epochs": 1, "seconds": 1.0, "accuracy": 0.5}},
    "tables": {"table-5": "Table 5. Training from scratch", "details": "not of the page"},
}


def result(benchmark: dict[str, Any] | None, study: dict[str, Any]) -> dict[str, Any]:
    return {
        "date": "2026-01-02",
        "hardware": {"gpus": ["NVIDIA H100"], "processors": 16, "processor": "Xeon"},
        "versions": {"jax": "0.11"},
        "benchmark_gpu": benchmark,
        "study": study,
    }


def test_the_page_states_hardware_speeds_and_the_tables_of_the_study() -> None:
    text = gpu_study_page(result(BENCHMARK, STUDY))
    assert text.startswith("# NVIDIA H100, 2026-01-02")
    assert "| 32 | mixed_bfloat16 | 9000 | 9100 | 3000 | 3.00 | 0.46 |" in text
    assert "| 4 | no | 12000 | 200 |" in text
    assert "56 drawn images of 32 px, stored as JPEG of quality 95, 2 folds (grouped)" in text
    assert "2 of 2 trials in 5.0 minutes from start to predictions, 4 at once; GPU busy 91% of 300 s" in text
    assert "| scratch | 2 | 1 | 1.0 | 0.500 |" in text
    assert "Table 5. Training from scratch" in text
    assert "not of the page" not in text


def test_a_study_that_is_not_complete_has_no_time_to_predictions() -> None:
    text = gpu_study_page(result(None, {**STUDY, "trials": 3}))
    assert "2 of 3 trials in 5.0 minutes from start to the end of the calls, 4 at once" in text


def test_a_run_of_which_no_trial_finished_has_a_page_too() -> None:
    text = gpu_study_page(result(None, {"finished": 0}))
    assert "No trial was finished" in text
    assert "## Speed" not in text


def test_the_result_of_a_study_has_its_images_and_every_finished_trial(work: Path, tmp_path: Path) -> None:
    manifest = open_manifest(work / "manifest")
    result = study_result(work / "runs" / "t", manifest)
    assert (result["images"], result["synthetic"], result["input_size"], result["folds"]) == (56, True, 32, 2)
    assert (result["finished"], result["trials"], result["protocol"]) == (2, 2, "grouped")
    assert (result["strategies"]["scratch"]["trials"], result["strategies"]["scratch"]["epochs"]) == (2, 1)
    assert "Table 5. Training from scratch" in result["tables"]["table-5"]
    assert not study_result(tmp_path, manifest)["finished"]
