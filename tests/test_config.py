import dataclasses
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from cxr_platform.config import (
    AugmentationConfig,
    ModelConfig,
    RobustConfig,
    ScheduleConfig,
    differences,
    load_profile,
    parse_profile,
    profile_names,
)
from cxr_platform.errors import ConfigError

SCHEDULES = """
off_the_shelf = { epochs = 2, learning_rate = 0.001 }
fine_tuning = { epochs = 2, learning_rate = 0.001 }
scratch = { epochs = 2, learning_rate = 0.001 }
"""
SMALLEST = f"folds = 3\n[training]\n{SCHEDULES}"


def profile_file(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def complaint(path: str, overrides: dict[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_profile(path, overrides)
    return str(caught.value)


def test_the_profiles_of_the_package_are_found() -> None:
    assert profile_names() == ["demo", "paper", "quick", "robust"]


def test_the_robust_profile_is_quick_with_any_classes_and_a_chosen_head() -> None:
    quick, robust = (load_profile(name).to_dict() for name in ("quick", "robust"))
    changed = {line.split(":")[0] for line in differences(quick, robust)}
    assert {key for key in changed if not key.startswith("robust.")} == {"name", "intake.selection.classes"}
    assert quick["robust"] == asdict(RobustConfig())
    assert robust["robust"]["views"] == ("whole", "lungs")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"views": []}, "views with one view or more, each once"),
        ({"views": ["whole", "whole"]}, "views with one view or more, each once"),
        ({"views": ["mixed-lungs"]}, "'whole', 'lungs' or 'without-lungs'"),
        ({"margin": 1.0}, 'margin 0, or against = "normal"'),
        ({"appearance": "mixed"}, 'appearance "none", or "lungs" among the views'),
        ({"last_layer": "balanced", "group_dro": True}, 'last_layer "all", or no group_dro'),
        ({"last_layer": "balanced", "balanced": "class"}, 'last_layer "all", or no group_dro and balanced "none"'),
        ({"last_layer": "within", "gate": True}, 'last_layer "all" with gate'),
    ],
)
def test_settings_of_a_robust_head_that_would_have_no_effect_are_refused(
    settings: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_profile("quick", {f"robust.{key}": value for key, value in settings.items()})
    assert expected in str(caught.value)


def test_the_paper_profile_holds_what_the_paper_states() -> None:
    paper = load_profile("paper")
    assert (paper.name, paper.folds) == ("paper", 10)
    assert paper.intake.decoding.image_size == 200
    assert paper.intake.selection.caps == "paper"
    assert paper.model == ModelConfig(input_size=200, alpha=1.0, dense_units=2500, dropout=0.5)
    assert (paper.augmentation.rotation_degrees, paper.augmentation.shift_fraction) == (10.0, 0.1)


def test_the_quick_profile_differs_from_the_paper_in_size_only() -> None:
    quick, paper = load_profile("quick"), load_profile("paper")
    assert (quick.folds, quick.model.input_size) == (3, 96)
    assert dataclasses.replace(quick.model, input_size=200) == paper.model
    assert quick.training.scratch.epochs < paper.training.scratch.epochs


def test_a_file_needs_folds_and_schedules_only_and_takes_its_name_from_the_path(tmp_path: Path) -> None:
    profile = load_profile(profile_file(tmp_path, SMALLEST))
    assert (profile.name, profile.folds) == ("mine", 3)
    assert profile.augmentation == AugmentationConfig()


def test_a_profile_is_frozen_and_its_repr_shows_its_values() -> None:
    profile = load_profile("quick")
    with pytest.raises(dataclasses.FrozenInstanceError):
        profile.folds = 4  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        profile.model.dropout = 0.0  # type: ignore[misc]
    assert "folds=3" in repr(profile)
    assert "input_size=96" in repr(profile)


def test_a_profile_becomes_nested_plain_values() -> None:
    tree = load_profile("quick").to_dict()
    assert tree["model"]["input_size"] == 96
    left_alone = {"steps": 0, "weight_decay": 0.0, "early_scale": 0.0, "early_share": 0.0}
    assert tree["training"]["fine_tuning"] == {"epochs": 8, "learning_rate": 0.0005, **left_alone}


def test_overrides_replace_single_values_and_leave_the_rest() -> None:
    plain = load_profile("quick")
    other = load_profile("quick", {"folds": 5, "model.input_size": 64, "intake.selection.limit": 7})
    assert (other.folds, other.model.input_size, other.intake.selection.limit) == (5, 64, 7)
    assert dataclasses.replace(other.model, input_size=96) == plain.model
    assert other.training == plain.training


def test_an_unknown_profile_is_answered_with_the_names() -> None:
    assert "a profile name (demo, paper, quick, robust)" in complaint("papper")
    assert "'papper'" in complaint("papper")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "absent.toml"
    assert complaint(str(path)) == f"Expected a readable TOML file at {path}. Received: No such file or directory."


def test_a_file_that_is_no_toml_is_named_with_the_line(tmp_path: Path) -> None:
    path = profile_file(tmp_path, "folds = 3\nseed 2020\n")
    assert f"Expected TOML in {path}" in complaint(path)
    assert "line 2" in complaint(path)


def test_a_file_of_other_bytes_is_no_toml(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "Expected TOML in" in complaint(str(tmp_path / "binary.toml"))


def test_a_misspelt_key_is_an_error_that_suggests_the_right_one(tmp_path: Path) -> None:
    text = complaint(profile_file(tmp_path, f"{SMALLEST}[model]\ninput_sise = 96\n"))
    assert text.startswith("profile mine.toml: model: expected one of the keys input_size, alpha,")
    assert text.endswith("Received: 'input_sise'. Did you mean 'input_size'?")


def test_an_unknown_key_that_resembles_nothing_gets_no_suggestion(tmp_path: Path) -> None:
    text = complaint(profile_file(tmp_path, f"optimizer = 'adam'\n{SMALLEST}"))
    assert text.endswith("Received: 'optimizer'. Remove it or correct it.")


def test_an_override_of_an_unknown_key_is_an_error_too() -> None:
    assert "Did you mean 'dropout'?" in complaint("quick", {"model.droput": 0.1})


def test_a_missing_key_is_named_with_its_table(tmp_path: Path) -> None:
    assert "profile mine.toml: missing folds." in complaint(profile_file(tmp_path, f"[training]\n{SCHEDULES}"))
    text = complaint(profile_file(tmp_path, "folds = 3\n[training]\nbatch_size = 8\n"))
    assert "profile mine.toml: training: missing off_the_shelf, fine_tuning, scratch." in text


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("folds", "3", "folds: expected a whole number. Received: '3'"),
        ("folds", 3.0, "folds: expected a whole number. Received: 3.0"),
        ("folds", True, "folds: expected a whole number. Received: True"),
        ("model.dropout", "half", "model.dropout: expected a number. Received: 'half'"),
        ("intake.selection.limit", "all", "limit: expected a whole number. Received: 'all'"),
        ("intake.selection.caps", "Paper", "caps: expected 'none' or 'paper'. Received: 'Paper'"),
        ("resources.gpu", "one", "gpu: expected a number or 'auto'. Received: 'one'"),
        ("training.scratch", 12, "training.scratch: expected a table. Received: 12"),
        ("folds.of", 3, "folds: expected a table. Received: 3"),
    ],
)
def test_a_value_of_another_type_names_file_key_and_what_came(key: str, value: Any, expected: str) -> None:
    text = complaint("quick", {key: value})
    assert text.startswith("profile quick.toml: ")
    assert expected in text


def test_a_whole_number_will_do_where_a_fraction_is_asked_for() -> None:
    rotation = load_profile("quick", {"augmentation.rotation_degrees": 5}).augmentation.rotation_degrees
    assert (rotation, type(rotation)) == (5.0, float)


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("folds", 2, 1),
        ("model.input_size", 32, 31),
        ("model.input_size", 200, 201),
        ("model.dropout", 0.0, 1.0),
        ("model.batch_norm_momentum", 0.0, 1.0),
        ("augmentation.rotation_degrees", 0.0, -1.0),
        ("augmentation.shift_fraction", 1.0, 1.1),
        ("augmentation.views", 0, -1),
        ("training.batch_size", 2, 1),
        ("training.warmup_fraction", 0.0, 1.0),
        ("training.label_smoothing", 0.0, 1.0),
        ("intake.selection.limit", 1, -1),
        ("resources.cpu", 0.5, 0.0),
        ("resources.gpu", 0.0, -0.5),
        ("resources.gpu", "auto", -1),
        ("resources.retries", 0, -1),
        ("seed", 0, -1),
        ("seed", 2**32 - 1, 2**32),
        ("model.alpha", 0.35, 0.0),
        ("model.dense_units", 1, 0),
        ("resources.cpu", 1, float("inf")),
        ("resources.gpu", 1, 1.5),
        ("resources.gpu", 2, float("inf")),
        ("intake.decoding.image_size", 1024, 1025),
        ("intake.decoding.image_size", 96, 31),
        ("intake.decoding.max_bytes", 1, 0),
        ("intake.decoding.max_pixels", 1, 0),
        ("intake.decoding.percentile_low", 0, -0.1),
        ("intake.decoding.percentile_low", 99.4, 99.5),
        ("intake.decoding.percentile_high", 100, 100.1),
        ("intake.quality.min_contrast", 1, 1.1),
        ("intake.quality.min_std", 0, -0.1),
        ("intake.quality.max_aspect", 1, 0.9),
        ("intake.quality.max_flat_fraction", 1, 20),
        ("intake.quality.min_uprightness", -2, -2.1),
        ("intake.quality.min_side_pixels", 1, 0),
        ("intake.selection.near_duplicate_distance", 0, -1),
        ("intake.selection.near_duplicate_distance", 16, 17),
    ],
)
def test_a_value_out_of_range_is_refused_and_the_last_good_one_is_not(key: str, good: Any, bad: Any) -> None:
    load_profile("quick", {key: good})
    text = complaint("quick", {key: bad})
    place = f"profile quick.toml: {key}"
    assert text.startswith(f"{place}: expected ") or key.split(".")[-1] in text
    assert "Received: " in text or key.split(".")[-1] in text


def test_a_limit_of_no_images_is_refused() -> None:
    text = complaint("quick", {"intake.selection.limit": 0})
    assert "selection.limit: expected greater than or equal to 1. Received: 0" in text


def test_epochs_and_learning_rates_must_be_above_zero() -> None:
    for key, value in (("epochs", 0), ("learning_rate", 0.0), ("learning_rate", float("nan"))):
        text = complaint("quick", {f"training.fine_tuning.{key}": value})
        assert f"training.fine_tuning.{key}: expected " in text


def test_a_weight_decay_below_zero_is_refused() -> None:
    text = complaint("quick", {"training.scratch.weight_decay": -0.1})
    assert "scratch.weight_decay: expected greater than or equal to 0. Received: -0.1" in text


def test_further_broken_ranges_are_named() -> None:
    text = complaint("quick", {"folds": 0, "model.dropout": 2.0})
    assert "folds: expected greater than or equal to 2. Received: 0" in text
    assert "Also wrong: model.dropout." in text


def test_differences_name_the_path_of_every_changed_leaf() -> None:
    before, now = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 5}, "e": 4}
    assert list(differences(before, now)) == ["a.c: 2 → 5", "d: 3 → None", "e: None → 4"]


def test_a_small_collection_gets_the_least_number_of_steps() -> None:
    schedule = ScheduleConfig(epochs=5, learning_rate=0.1, steps=100)
    assert schedule.epochs_for(70, batch_size=8) == 12  # nine steps each
    assert schedule.epochs_for(8000, batch_size=8) == 5


def test_the_last_epoch_has_images_of_full_size() -> None:
    schedule = ScheduleConfig(epochs=1, learning_rate=0.003, early_scale=0.67, early_share=0.9)
    assert [schedule.early_epochs(epochs, 96) for epochs in (1, 2, 3, 10)] == [0, 1, 2, 9]


@pytest.mark.parametrize("alone", ["early_scale", "early_share"])
def test_smaller_images_need_a_size_and_a_share_of_the_epochs(alone: str) -> None:
    quick = load_profile("quick").training.scratch
    other = ({"early_scale", "early_share"} - {alone}).pop()
    assert getattr(quick, alone)
    with pytest.raises(ConfigError, match="early_scale and early_share both above 0, or neither"):
        load_profile("quick", {f"training.scratch.{other}": 0.0})
    stored = load_profile("quick").to_dict()
    stored["training"]["scratch"][other] = 0.0
    parse_profile(stored, "a study of before can still be read")


def test_the_first_epochs_of_scratch_may_have_smaller_images() -> None:
    schedule = ScheduleConfig(epochs=30, learning_rate=0.003, early_scale=0.67, early_share=0.67)
    assert [schedule.early_size(side) for side in (200, 96, 64, 40, 32)] == [128, 64, 48, 32, 0]
    assert schedule.early_epochs(30, 96) == 20
    assert schedule.early_epochs(30, 32) == 0, "there are no smaller ones"
    assert schedule.full_size_epochs(30, 96) == pytest.approx(10 + 20 * 4 / 9)
    assert replace(schedule, early_scale=0.0, early_share=0.0).full_size_epochs(30, 96) == 30
    with pytest.raises(ConfigError, match="early_scale 0: activations of frozen layers have one size"):
        load_profile("quick", {"training.fine_tuning.early_scale": 0.5})
