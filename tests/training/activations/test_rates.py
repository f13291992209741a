from pathlib import Path

import pytest

from cxr_platform.domain.study import ActivationRates
from cxr_platform.errors import StorageError
from cxr_platform.storage.files import children
from cxr_platform.training.activations.plan import choose_storages, plan_activations
from cxr_platform.training.activations.rates import RateProbe, deepest, read_rate, reads_of_images, storage_seconds
from cxr_platform.training.activations.storage import Room, StorageNeed
from tests.recorded_progress import RecordedProgress
from tests.storage.object_store import folder
from tests.training.builders import begin, tiny_study

NEED = StorageNeed(images=1000, views=2, per_view={"features": 100, "block_15": 900}, images_per_file=256)
GIB = 2.0**30


def rates(images: float, size: float) -> ActivationRates:
    return ActivationRates(images_per_second=images, bytes_per_second=size)


def test_the_deepest_cut_has_all_others_below_it() -> None:
    assert deepest(("block_5", "features", "block_15")) == "features"
    assert deepest(("block_5", "block_15")) == "block_15"


def test_an_image_is_read_in_every_epoch_that_trains_on_it_and_once_for_the_test(tmp_path: Path) -> None:
    plan = tiny_study(tmp_path, ("off-the-shelf", "scratch", "fine-tuning-1")).plan
    epochs = [
        plan.profile.training.schedule(family).epochs_for(28, plan.profile.training.batch_size)
        for family in ("off_the_shelf", "fine_tuning")
    ]
    assert reads_of_images(plan, ("features", "block_15")) == {  # two folds: each trains on one half
        "features": epochs[0] + 1,
        "block_15": epochs[1] + 1,
    }


def test_files_cost_writing_and_reading_and_computing_again_costs_a_pass_for_each_read() -> None:
    reads = {"features": 10.0, "block_15": 20.0}
    seconds = storage_seconds(NEED, 1.0, reads, rates(500.0, 1e6))
    assert seconds.recompute == 30 * 1000 / 500
    assert seconds.files == pytest.approx(2 * 1000 / 500 + (2e6 + 1000 * (10 * 100 + 20 * 900)) / 1e6)
    assert storage_seconds(NEED, 0.0, reads, rates(500.0, 1e6)).files == pytest.approx(19.0)  # written before


def test_the_rate_of_reading_is_measured_with_a_file_that_is_removed(tmp_path: Path, store: dict[str, str]) -> None:
    for place in (tmp_path / "new", folder("rates")):
        assert read_rate(place) > 0
        assert children(place) == []


def test_a_place_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("")
    with pytest.raises(StorageError, match="occupied"):
        read_rate(tmp_path / "occupied")


def test_auto_measures_once_and_a_continued_study_keeps_its_choice(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, ("off-the-shelf", "fine-tuning-1"))
    study.folder.start(study.plan)
    probes: list[RateProbe] = []

    def measure(probe: RateProbe) -> ActivationRates:
        probes.append(probe)
        return rates(1e6, 1.0)  # a fast GPU and a slow disk

    room, progress = Room(0.0, 0.0, GIB), RecordedProgress()
    for _ in range(2):
        chosen = choose_storages(study, ("features", "block_15"), room, progress, measure)
        plan = plan_activations(study, ("features", "block_15"), chosen)
        assert (plan.parts, set(plan.elsewhere)) == ([], {"features", "block_15"})
        for name in ("off-the-shelf", "fine-tuning-1"):
            begin(study, name)
    (probe,) = probes
    assert probe.cut == "features"
    assert probe.folder is not None
    assert probe.folder.parent == tmp_path / "activations"
    record = study.folder.record()
    assert (record.activations, record.activation_rates) == (chosen, rates(1e6, 1.0))
    assert chosen == {"features": "recompute", "block_15": "recompute"}
    assert ["Measured: 1,000,000 images/s" in message for message in progress.messages] == [True, False]


def test_what_fits_into_the_cache_of_a_node_is_measured_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_CACHE", str(tmp_path / "cache"))
    study, measured = tiny_study(tmp_path / "study", ("off-the-shelf",)), []

    def measure(probe: RateProbe) -> ActivationRates:
        assert (probe.folder, len(probe.images), len(probe.transforms)) == (None, 56, 56)
        measured.append(probe.rates(gpus=2.0))
        return measured[0]

    choose_storages(study, ("features",), Room(0.0, 0.0, None, cache=GIB), RecordedProgress(), measure)
    assert measured[0].images_per_second > 0
    assert (tmp_path / "cache").is_dir()
    assert not (tmp_path / "study").exists()
