from pathlib import Path

from pipelines import results


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
