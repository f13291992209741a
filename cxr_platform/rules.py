"""What the values of a profile must be beyond their types."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cxr_platform.config import IntakeConfig, Profile


def broken_rules(profile: "Profile") -> list[str]:
    """What was expected and is not so, in words; a value that is no number keeps no rule."""
    rules = _intake_rules(profile.intake) | _training_rules(profile)
    return [rule for rule, kept in rules.items() if not kept]


def _intake_rules(intake: "IntakeConfig") -> dict[str, bool]:
    decoding, quality, selection = intake.decoding, intake.quality, intake.selection
    return {
        "intake.decoding.image_size from 32 to 1024": 32 <= decoding.image_size <= 1024,
        "intake.decoding.max_bytes at least 1": decoding.max_bytes >= 1,
        "intake.decoding.max_pixels at least 1": decoding.max_pixels >= 1,
        "intake.decoding.percentile_low from 0 to below intake.decoding.percentile_high, and that to 100": (
            0 <= decoding.percentile_low < decoding.percentile_high <= 100
        ),
        "intake.quality.min_contrast from 0 to 1": 0 <= quality.min_contrast <= 1,
        "intake.quality.min_std from 0 to 1": 0 <= quality.min_std <= 1,
        "intake.quality.max_aspect at least 1": quality.max_aspect >= 1,
        "intake.quality.max_flat_fraction from 0 to 1": 0 <= quality.max_flat_fraction <= 1,
        "intake.quality.min_uprightness from -2 to 2": -2 <= quality.min_uprightness <= 2,
        "intake.quality.min_side_pixels at least 1": quality.min_side_pixels >= 1,
        "intake.selection.limit at least 1": selection.limit is None or selection.limit >= 1,
        "intake.selection.near_duplicate_distance from 0 to 16": 0 <= selection.near_duplicate_distance <= 16,
    }


def _training_rules(profile: "Profile") -> dict[str, bool]:
    training, resources = profile.training, profile.resources
    schedules = (training.off_the_shelf, training.fine_tuning, training.scratch)
    return {
        "folds at least 2": profile.folds >= 2,
        "seed from 0 to below 2**32": 0 <= profile.seed < 2**32,
        "model.input_size from 32 to intake.decoding.image_size": (
            32 <= profile.model.input_size <= profile.intake.decoding.image_size
        ),
        "model.alpha above 0": 0 < profile.model.alpha < math.inf,
        "model.dense_units at least 1": profile.model.dense_units >= 1,
        "model.dropout from 0 to below 1": 0 <= profile.model.dropout < 1,
        "model.batch_norm_momentum from 0 to below 1": 0 <= profile.model.batch_norm_momentum < 1,
        "augmentation.rotation_degrees not negative": profile.augmentation.rotation_degrees >= 0,
        "augmentation.shift_fraction from 0 to 1": 0 <= profile.augmentation.shift_fraction <= 1,
        "augmentation.views not negative": profile.augmentation.views >= 0,
        "training.batch_size at least 2": training.batch_size >= 2,
        "training.warmup_fraction from 0 to below 1": 0 <= training.warmup_fraction < 1,
        "training.label_smoothing from 0 to below 1": 0 <= training.label_smoothing < 1,
        "epochs and learning rates above 0": all(s.epochs > 0 and s.learning_rate > 0 for s in schedules),
        "weight_decay not negative": all(0 <= s.weight_decay < math.inf for s in schedules),
        "resources.cpu above 0 and finite": 0 < resources.cpu < math.inf,
        "resources.gpu 'auto', from 0 to 1, or a whole number": resources.gpu == "auto" or _is_share(resources.gpu),
        "resources.retries not negative": resources.retries >= 0,
    }


def _is_share(gpu: float) -> bool:
    """Part of one GPU, or whole GPUs: Ray gives nothing between."""
    return 0 <= gpu <= 1 or (gpu > 1 and gpu.is_integer())
