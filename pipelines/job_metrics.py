"""Metrics of verbs that end: the options that ask for them, and the job that delivers them."""

import argparse
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cxr_platform.monitoring.batch import Job, Verb
    from cxr_platform.training.study import StudyRun


def add_metrics_arguments(parser: argparse.ArgumentParser) -> None:
    """`--metrics-dir` and `--push-gateway`; without either, CXR_METRICS_DIR and CXR_PUSHGATEWAY_URL."""
    parser.add_argument("--metrics-dir", type=Path, help="folder of node exporter's textfile collector (Prometheus)")
    parser.add_argument("--push-gateway", metavar="URL", help="of a Prometheus push gateway")


def metrics_job(verb: "Verb", study: str, arguments: argparse.Namespace) -> "AbstractContextManager[Job]":
    """The job of `verb` for `study`, delivered at the end of the block where the arguments or environment ask for it.

    Raises `ConfigError` for what is no URL of a push gateway.
    """
    from cxr_platform.monitoring.batch import Destination, measured

    destination = Destination.choose(arguments.metrics_dir, arguments.push_gateway)
    return measured(verb, study, destination, lambda line: print(line, file=sys.stderr))


def count_study(job: "Job", study: "StudyRun") -> None:
    """What stands of a study: its trials, and the accuracy of every strategy that is pooled."""
    from cxr_platform.domain.study import read_study
    from cxr_platform.evaluation.predictions import load_predictions
    from cxr_platform.evaluation.study_results import compute_study_results
    from cxr_platform.monitoring.batch import study_counts
    from cxr_platform.storage.mirror import local_copy

    trials = study.plan.trials()
    finished = sum(study.folder.is_finished(key) for key in trials)
    accuracy: dict[str, float | None] = {}
    with local_copy(study.folder.root, ("study.json", "predictions.parquet").__contains__) as root:
        if (root / "predictions.parquet").is_file():
            facts = read_study(root)
            for name, result in compute_study_results(facts, load_predictions(root, facts)).strategies.items():
                accuracy[name] = result.pooled.accuracy_7_class
    study_counts(job, {"finished": finished, "failed": len(trials) - finished}, accuracy)
