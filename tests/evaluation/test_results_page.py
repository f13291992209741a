import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from cxr_platform.domain.strategies import TITLES
from cxr_platform.errors import StudyError
from cxr_platform.evaluation.report_tables import sets_table
from cxr_platform.evaluation.results_json import plain, results_tree
from cxr_platform.evaluation.results_page import (
    MARKS,
    README_ROWS,
    key_figures,
    key_figures_table,
    published_study,
    read_published,
    results_page,
    with_key_figures,
)
from cxr_platform.evaluation.table import Row, Table, to_markdown
from tests.evaluation.made_findings import OUTSIDE, contents, findings, section
from tests.registry.builders import SETS


@pytest.fixture
def tree(all_strategies) -> dict:
    """The results.json of a study like the paper's, with the sections that key figures need."""
    measured = {"value": 87.5, "low": 85.0, "high": 90.0, "ratio": False, "signed": False}
    intervals = section("intervals", values={"scratch": {"pooled": {"accuracy_7_class": measured}}})
    tree: dict = json.loads(
        json.dumps(results_tree(contents(all_strategies, [intervals, section("hospitals", values={})], findings())))
    )
    tree["manifest"]["synthetic"] = False
    return tree


@pytest.fixture
def folder(tree, tmp_path) -> Path:
    (tmp_path / "report" / "tables").mkdir(parents=True)
    (tmp_path / "results.json").write_text(json.dumps(tree))
    table = Table("hospitals", "AUC with one origin left out", ("Left out",), ("A",), (Row(("B",), (0.25,)),))
    (tmp_path / "report" / "tables" / "hospitals.md").write_text(to_markdown(table))
    return tmp_path


def test_key_figures_are_those_of_results_json(tree):
    figures = key_figures(tree)

    assert figures["Training from scratch: 7-class accuracy"] == "87.50 (85.00 to 90.00)"
    assert figures["Off-the-shelf features: 7-class accuracy"] == "–"  # the section has none
    assert figures["Always the most frequent class"] == f"{tree['majority_class_accuracy']:.2f}"


def test_robust_is_a_key_figure_of_studies_that_have_it(tree):
    name = "Robust head: 7-class accuracy"
    assert name not in key_figures(tree)
    tree["sections"]["intervals"]["values"]["robust"] = tree["sections"]["intervals"]["values"]["scratch"]
    assert key_figures(tree)[name] == "87.50 (85.00 to 90.00)"


def test_the_best_strategy_is_corrected_for_its_being_the_best(tree):
    tree["findings"]["picked"] = {
        "measured": {"value": 90.0, "low": 88.0, "high": 92.0},
        "optimism": 1.5,
        "strategies": 8,
    }
    best = key_figures(tree)["Best strategy, corrected for its being the best"]
    assert best == "Training from scratch: 88.50 (86.50 to 90.50)"


def test_mean_and_worst_hospital_are_those_of_the_section(tree):
    name = "Covid19 with a hospital left out: mean and worst AUC"
    assert key_figures(tree)[name] == "–"
    worst = {"value": 0.25, "low": 0.2, "high": 0.3, "ratio": True, "signed": False}
    mean = {"value": 0.5, "low": 0.4, "high": 0.6, "ratio": True, "signed": False}
    tree["sections"]["hospitals"]["values"] = {"mean_auc": mean, "worst": {"auc": worst}}
    assert key_figures(tree)[name] == "0.500 (0.400 to 0.600) and 0.250 (0.200 to 0.300)"


def test_hospitals_by_the_head_of_robust_are_a_key_figure_of_studies_that_judged_it(tree):
    name = "Robust head with a hospital left out: mean and worst AUC"
    assert name not in key_figures(tree)
    worst = {"value": 0.5, "low": 0.4, "high": 0.6, "ratio": True, "signed": False}
    of_robust = {"mean_auc": {**worst, "value": 0.55}, "worst": {"auc": worst}}
    tree["sections"]["hospitals"]["values"] = {**of_robust, "robust": of_robust}
    assert key_figures(tree)[name] == "0.550 (0.400 to 0.600) and 0.500 (0.400 to 0.600)"


def test_what_shuffled_folds_add_is_a_key_figure_of_studies_with_both_kinds(tree):
    name = "Shuffled folds minus grouped ones, mean of all strategies: 7-class accuracy"
    mean = {"value": 1.5, "low": -0.5, "high": 2.5, "signed": True}
    for found in (None, {"mean": None}):
        tree["findings"]["leakage"] = found
        assert name not in key_figures(tree)
    tree["findings"]["leakage"] = {"mean": mean}
    assert key_figures(tree)[name] == "+1.50 (−0.50 to +2.50)"


def test_images_outside_the_classes_are_key_figures(tree):
    name = "Outside the classes, shenzhen: called Covid19"
    part, of_another = replace(OUTSIDE, whole=False, source="a"), replace(OUTSIDE, strategy="off-the-shelf", source="b")
    found = [plain(asdict(one)) for one in (replace(OUTSIDE, strategy=tree["winner"]["winner"]), part, of_another)]
    tree["findings"]["outside"] = found
    figures = {key: value for key, value in key_figures(tree).items() if key.startswith("Outside")}
    assert figures == {name: "54.00 (47.00 to 61.00)"}
    del tree["findings"]["outside"]  # the report of an older platform
    assert name not in key_figures(tree)


def test_a_study_is_read_back_as_it_was_written(folder, tmp_path):
    study = published_study(folder, "make cv-all DATA=~/images")
    file = tmp_path / "published.json"
    file.write_bytes(study.to_json())

    assert read_published(file) == study
    assert list(study.tables) == ["hospitals"]


def test_the_page_has_the_figures_the_command_and_the_tables(folder):
    study = published_study(folder, "make cv-all DATA=~/images")
    page = results_page([study], {"results/recipe.md": "Recipe"})

    assert "87.50 (85.00 to 90.00) | 87.66 |" in page  # ours, and the paper's
    assert "make cv-all DATA=~/images" in page
    assert "| B | 0.25 |" in page
    assert "- [Recipe](results/recipe.md)" in page


def test_the_coverage_of_prediction_sets_is_published(folder):
    table = sets_table(SETS, synthetic=False)
    (folder / "report" / "tables" / f"{table.name}.md").write_text(to_markdown(table))
    page = results_page([published_study(folder, "make cv-all")], {})
    assert "91.00 (85.00 to 96.00)" in page[page.index("## Which classes may an image have?") :]


def test_the_readme_repeats_the_first_rows(folder):
    study = published_study(folder, "make cv-all")
    start, end = MARKS
    readme = with_key_figures(f"before\n{start}\nold\n{end}\nafter\n", [study])

    table = key_figures_table([study]).splitlines()
    assert readme.splitlines() == ["before", start, *table[: 2 + README_ROWS], end, "after"]
    assert with_key_figures(readme, [study]) == readme


def test_a_readme_without_marks_is_refused(folder):
    with pytest.raises(StudyError, match="key figures"):
        with_key_figures("# Title\n", [published_study(folder, "make cv-all")])


def test_a_study_without_a_report_is_refused(tmp_path):
    with pytest.raises(StudyError, match="cxr report --study"):
        published_study(tmp_path, "make cv-all")


def test_a_report_of_another_version_is_refused(folder, tree):
    (folder / "results.json").write_text(json.dumps({**tree, "schema_version": 1}))
    with pytest.raises(StudyError, match="schema_version 5"):
        published_study(folder, "make cv-all")


def test_a_study_of_synthetic_images_is_refused(folder, tree):
    tree["manifest"]["synthetic"] = True
    (folder / "results.json").write_text(json.dumps(tree))
    with pytest.raises(StudyError, match="real images"):
        published_study(folder, "make cv-all")


def test_the_accuracy_at_unseen_hospitals_is_a_key_figure_of_studies_that_have_it(tree):
    start = "At hospitals that were left out of training, "
    assert not any(name.startswith(start) for name in key_figures(tree))
    accuracy = {"value": 61.5, "low": 55.0, "high": 66.0, "ratio": False, "signed": False}
    values = {name: {"accuracy": accuracy} for name in (tree["winner"]["winner"], "scratch", "off-the-shelf")}
    tree["sections"]["unseen_hospitals"] = {"values": values}
    shown = {name for name in key_figures(tree) if name.startswith(start)}
    assert shown == {
        f"{start}{TITLES[name].lower()}: 7-class accuracy" for name in (tree["winner"]["winner"], "scratch")
    }
