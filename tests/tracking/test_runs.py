"""What is read back from MLflow of a study that was logged."""

from pathlib import Path

import pytest

from cxr_platform.tracking.log import log_study
from cxr_platform.tracking.runs import PARENT_TAG
from tests.tracking.builders import LOSSES, make_study, opened, runs_of

pytest.importorskip("mlflow", reason="the extra `tracking` is not installed")


def test_the_profile_is_read_back_as_parameters(logged):
    study, run_id = logged
    run = opened(study).get_run(run_id)

    assert run.data.params == {
        "name": "quick", "folds": "3", "model.input_size": "96", "model.alpha": "1.0", "seed": "2020",
    }  # fmt: skip
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "test"


def test_what_identifies_the_study_is_read_back_as_tags(logged):
    study, run_id = logged
    tags = opened(study).get_run(run_id).data.tags

    assert tags["cxr.manifest_sha256"] == "b3f0c4de"
    assert tags["cxr.protocol"] == "grouped"
    assert tags["cxr.version.tensorflow"] == "2.16.2"
    assert tags["cxr.winner"] == "scratch"
    assert "not for diagnosis" in tags["mlflow.note.content"]


def test_figures_and_the_bounds_of_their_intervals_are_metrics_and_the_papers_are_not(logged):
    study, run_id = logged

    assert opened(study).get_run(run_id).data.metrics == {
        "strategies/scratch/pooled/accuracy_7_class": 90.5,
        "strategies/scratch/intervals/accuracy_7_class/value": 90.5,
        "strategies/scratch/intervals/accuracy_7_class/low": 88.25,
        "strategies/scratch/intervals/accuracy_7_class/high": 92.0,
    }


def test_each_trial_is_a_run_below_with_its_curves_by_epoch(logged):
    study, run_id = logged
    client, (_, trials) = opened(study), runs_of(study)
    last = next(trial for trial in trials if trial.info.run_name == "scratch fold 2")

    assert len(trials) == 3
    assert {trial.data.tags[PARENT_TAG] for trial in trials} == {run_id}
    assert {trial.info.status for trial in trials} == {"FINISHED"}
    losses = client.get_metric_history(last.info.run_id, "training/loss")
    assert [(metric.step, metric.value) for metric in losses] == list(zip([1, 2, 3], LOSSES, strict=True))
    accuracies = client.get_metric_history(last.info.run_id, "training/accuracy_percent")
    assert [metric.value for metric in accuracies] == [25, 50, 75]
    assert last.data.metrics["training/learning_rate"] == 0
    assert last.data.metrics["held_out/accuracy_percent"] == pytest.approx(82)
    assert last.data.params["seed"] == "7"


def test_the_report_and_the_study_are_artifacts(logged, tmp_path):
    study, run_id = logged
    client = opened(study)

    assert {a.path for a in client.list_artifacts(run_id)} == {"report", "study.json"}
    page = client.download_artifacts(run_id, "report/index.html", str(tmp_path))
    assert Path(page).read_text(encoding="utf-8") == "the page"
    assert "report/figures/accuracy.png" in {a.path for a in client.list_artifacts(run_id, "report/figures")}


def test_synthetic_images_are_in_the_name_of_the_run(tmp_path):
    study = make_study(tmp_path / "test", synthetic=True)

    run = opened(study).get_run(log_study(study))

    assert run.info.run_name == "test (synthetic images)"
    assert run.data.tags["cxr.synthetic"] == "True"
