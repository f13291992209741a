"""A small study `runs/t` of one strategy over a few drawn images, with its manifest."""

from pathlib import Path

from cxr_platform.config import load_profile
from pipelines import cross_validate, phantoms
from pipelines import manifest as manifest_verb
from tests.manifest.builders import fill_cache

SMALL = """
[model]
input_size = 32
dense_units = 16
[augmentation]
views = 1
[training]
batch_size = 16
"""
PROFILE = f"""
folds = 2
{SMALL}
off_the_shelf = {{ epochs = 1, learning_rate = 0.001 }}
fine_tuning = {{ epochs = 1, learning_rate = 0.001 }}
scratch = {{ epochs = 3, learning_rate = 0.001 }}
[resources]
cpu = 1.0
"""


def draw(folder: Path, per_class: int, seed: int = 3) -> None:
    request = ["--out", str(folder), "--per-class", str(per_class), "--seed", str(seed), "--size", "224"]
    assert phantoms.main(request) == 0


def make_study(work: Path, per_class: int) -> Path:
    """Write `images`, `manifest`, `runs/t` and its profile `tiny.toml` (one epoch) to `work`, and return `work`."""
    profile = work / "tiny.toml"
    profile.write_text(PROFILE.replace("epochs = 3", "epochs = 1"))
    draw(work / "images", per_class)
    fill_cache(work / "images", work / "manifest", load_profile(str(profile), {}))
    built = ["--data", str(work / "images"), "--out", str(work / "manifest"), "--profile", str(profile)]
    assert manifest_verb.main(built) == 0
    named = ["--manifest", str(work / "manifest"), "--profile", str(profile), "--runs", str(work / "runs")]
    run = [*named, "--name", "t", "--strategies", "scratch", "--engine", "local", "--no-report"]
    assert cross_validate.main(run) == 0
    return work
