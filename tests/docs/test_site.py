"""The documentation builds without a warning, and its reference holds what the code has."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cxr_platform.config import TrainingConfig
from cxr_platform.intake.candidate import REASONS
from pipelines.cli import VERBS
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    return folder


def text(site: Path, page: str) -> str:
    return (site / page).read_text(encoding="utf-8")


def test_every_verb_is_in_the_reference(site: Path) -> None:
    page = text(site, "reference/command-line.html")
    assert [verb for verb in VERBS if f"cxr {verb}" not in page] == []
    assert "--imagenet-weights" in page


def test_every_key_of_a_profile_is_in_the_reference_with_both_profiles_values(site: Path) -> None:
    page = text(site, "reference/profile.html")
    assert [field.name for field in dataclasses.fields(TrainingConfig) if field.name not in page] == []
    assert "<th>paper</th>" in page


def test_files_are_described_by_their_schemas(site: Path) -> None:
    page = text(site, "reference/files.html")
    for name in ("fold_grouped", "p_Covid19", "trained_layers", "target_sensitivity", "effective_at"):
        assert name in page


def test_every_reason_for_exclusion_is_explained(site: Path) -> None:
    page = text(site, "reference/files.html")
    assert [reason for reason in REASONS if f"<code>{reason}</code>" not in page] == []


def test_http_metrics_and_exit_codes_come_from_the_code(site: Path) -> None:
    assert "/v1/screen" in text(site, "reference/http.html")
    assert "cxr_requests_total" in text(site, "reference/metrics.html")
    assert "PromotionRefused" in text(site, "reference/exit-codes.html")


def test_no_page_loads_anything_from_another_server(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        assert 'src="http' not in page.read_text(encoding="utf-8"), page
