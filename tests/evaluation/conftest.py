"""Outcomes of made-up studies, computed once for all tests of this folder."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from cxr_platform.domain.study import read_study
from cxr_platform.evaluation.predictions import load_predictions
from cxr_platform.evaluation.study_results import StudyResults, compute_study_results
from tests.evaluation.builders import ACCURACIES, drawn_frame, printed_frame, write_study


def outcome_of(folder: Path) -> StudyResults:
    study = read_study(folder)
    return compute_study_results(study, load_predictions(folder, study))


@pytest.fixture(scope="session")
def all_strategies(tmp_path_factory: pytest.TempPathFactory) -> StudyResults:
    """Eight strategies on synthetic images."""
    return outcome_of(write_study(tmp_path_factory.mktemp("all"), drawn_frame(), synthetic=True))


@pytest.fixture(scope="session")
def nine_strategies(tmp_path_factory: pytest.TempPathFactory) -> StudyResults:
    """The paper's eight strategies and robust, on synthetic images."""
    frame = drawn_frame({**ACCURACIES, "robust": 0.81})
    return outcome_of(write_study(tmp_path_factory.mktemp("nine"), frame, synthetic=True))


@pytest.fixture(scope="session")
def as_printed(tmp_path_factory: pytest.TempPathFactory) -> StudyResults:
    """The two strategies whose matrices the paper prints, image for image, in ten folds."""
    return outcome_of(write_study(tmp_path_factory.mktemp("printed"), printed_frame(), protocol="paper"))


@pytest.fixture
def results(tmp_path: Path) -> Callable[..., StudyResults]:
    """The results of a frame of predictions."""

    def build(frame: pd.DataFrame, **options: object) -> StudyResults:
        return outcome_of(write_study(tmp_path, frame, **options))  # type: ignore[arg-type]

    return build
