import json
from pathlib import Path

import pytest

from cxr_platform.evaluation.results_page import read_published
from pipelines import results
from tests.conftest import REPOSITORY

PUBLISHED = sorted((REPOSITORY / "docs" / "results").glob("*.json"))


def test_the_page_lists_further_pages_by_their_headings(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "2026-01-02-gpu.md").write_text("# A GPU, 2 January 2026\n\ntext\n")

    assert results.main(["--docs", str(tmp_path)]) == 0
    assert "- [A GPU, 2 January 2026](results/2026-01-02-gpu.md)" in (tmp_path / "results.md").read_text()


def test_a_study_needs_the_command_that_made_it(tmp_path, capsys) -> None:
    assert results.main(["--docs", str(tmp_path), "--study", str(tmp_path)]) == 2
    assert "--command" in capsys.readouterr().err


def test_a_study_without_a_report_writes_nothing(tmp_path, capsys) -> None:
    assert results.main(["--docs", str(tmp_path), "--study", str(tmp_path), "--command", "make cv-all"]) == 2
    assert "cxr report --study" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_study_that_is_published_again_replaces_its_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    other, study = (read_published(file) for file in PUBLISHED[:2])
    for published in (other, study):
        (folder / f"{published.date}-{published.name}.json").write_bytes(published.to_json())
    later = json.loads(study.to_json()) | {"date": "2027-01-31", "note": ""}
    (tmp_path / "later.json").write_text(json.dumps(later))
    monkeypatch.setattr(results, "published_study", lambda *_: read_published(tmp_path / "later.json"))

    assert results.main(["--docs", str(tmp_path), "--study", str(tmp_path), "--command", "make cv-all"]) == 0
    assert {file.name for file in folder.iterdir()} == {
        f"{other.date}-{other.name}.json",
        f"2027-01-31-{study.name}.json",
    }
    again = folder / f"2027-01-31-{study.name}.json"
    assert read_published(again).note == study.note != ""
    request = ["--docs", str(tmp_path), "--study", str(tmp_path), "--command", "make cv-all", "--note", "Another."]
    assert results.main(request) == 0
    assert read_published(again).note == "Another."
