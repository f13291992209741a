"""The options; what each verb counts is looked at in the verbs' own tests."""

import argparse
from pathlib import Path

import pytest

from cxr_platform.errors import ConfigError
from cxr_platform.monitoring import names
from pipelines.job_metrics import add_metrics_arguments, metrics_job


def given(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_metrics_arguments(parser)
    return parser.parse_args(words)


def test_nothing_is_written_unless_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXR_METRICS_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    with metrics_job("study", "a", given()):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_job_is_written_where_the_option_says(tmp_path: Path) -> None:
    with metrics_job("study", "a", given("--metrics-dir", str(tmp_path))) as job:
        job.set(names.STUDY_TRIALS, 3, state="finished")
    written = (tmp_path / "cxr_study_a.prom").read_text()
    assert 'cxr_study_trials{state="finished",study="a"} 3.0' in written
    assert 'cxr_job_success{study="a",verb="study"} 1.0' in written


def test_what_is_no_gateway_is_said_before_anything_is_run() -> None:
    with pytest.raises(ConfigError, match="push gateway"):
        metrics_job("study", "a", given("--push-gateway", "here"))
