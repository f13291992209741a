"""Outcomes of made-up studies, computed once for all tests of this folder."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from cxr_platform.evaluation.predictions import load_predictions
from cxr_platform.evaluation.study import read_study
from cxr_platform.evaluation.study_results import Outcome, study_outcome
from tests.evaluation.builders import drawn_frame, printed_frame, write_study


def outcome_of(folder: Path) -> Outcome:
    study = read_study(folder)
    return study_outcome(study, load_predictions(folder, study))


@pytest.fixture(scope="session")
def all_strategies(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Eight strategies on synthetic images."""
    return outcome_of(write_study(tmp_path_factory.mktemp("all"), drawn_frame(), synthetic=True))


@pytest.fixture(scope="session")
def as_printed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The two strategies whose matrices the paper prints, image for image, in ten folds."""
    return outcome_of(write_study(tmp_path_factory.mktemp("printed"), printed_frame(), protocol="paper"))


@pytest.fixture
def outcome(tmp_path: Path) -> Callable[..., Outcome]:
    """The outcome of a frame of predictions."""

    def build(frame: pd.DataFrame, **options: object) -> Outcome:
        return outcome_of(write_study(tmp_path, frame, **options))  # type: ignore[arg-type]

    return build
