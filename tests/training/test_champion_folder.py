import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.errors import StorageError, StudyError, StudyMismatch
from cxr_platform.models.initial_weights import set_start
from cxr_platform.models.mobilenet import Network, build_network
from cxr_platform.storage.files import file_names
from cxr_platform.storage.paths import parse_path
from cxr_platform.training.champion_folder import ChampionFolder, read_champion
from cxr_platform.training.checkpoint import read_checkpoint
from cxr_platform.training.trial import Epoch
from tests.training.builders import tiny_profile
from tests.training.test_checkpoint import checkpoint, cut_off

IDENTITY = {"strategy": "scratch", "seed": 1, "training": {"batch_size": 8}}
HISTORY = [Epoch(1, 1, 1.5, 0.5, 0.01, 2.0)]


@pytest.fixture(scope="module")
def network() -> Network:
    network = build_network(strategy_by_name("scratch"), tiny_profile().model)
    set_start(network, 1, None)
    return network


@pytest.fixture
def folder(tmp_path: Path) -> ChampionFolder:
    return ChampionFolder(tmp_path, "scratch")


def test_a_finished_run_is_read_as_it_was_stored(folder: ChampionFolder, network: Network) -> None:
    assert folder.begin(IDENTITY) is None
    assert not folder.is_finished()
    folder.store(network, HISTORY, {"images": 56})
    folder.clean_up()
    run = read_champion(folder.final)
    assert run.identity == IDENTITY
    assert run.facts == {"schema_version": 1, "images": 56}
    assert pq.read_table(run.history)["epoch"].to_pylist() == [1]
    again = build_network(strategy_by_name("scratch"), tiny_profile().model)
    again.full.load_weights(run.weights)
    kernel = "head_logits"
    assert (again.full.get_layer(kernel).kernel.numpy() == network.full.get_layer(kernel).kernel.numpy()).all()
    assert [path.name for path in folder.final.parent.iterdir()] == ["scratch"]


def test_a_run_goes_on_from_the_newest_whole_checkpoint_and_the_rest_is_removed(folder: ChampionFolder) -> None:
    folder.begin(IDENTITY)
    checkpoint(folder.run, 1)
    kept = checkpoint(folder.run, 2, "attempt-b")
    checkpoint(folder.run, 1, "attempt-b")
    cut_off(checkpoint(folder.run, 3, "attempt-c"))
    (folder.run / "attempt-b" / "checkpoint_manager_snapshot.json").write_text("{")
    folder.final.with_name(".scratch.left").mkdir()
    assert folder.begin(IDENTITY) == kept
    assert sorted(p.name for p in folder.run.rglob("*")) == ["attempt-b", kept.name, "identity.json", "position.npz"]
    assert not folder.final.with_name(".scratch.left").exists()
    assert folder.begin(IDENTITY) == kept


def test_another_identity_is_refused_with_the_difference(folder: ChampionFolder, network: Network) -> None:
    folder.begin(IDENTITY)
    other = {**IDENTITY, "training": {"batch_size": 16}}
    with pytest.raises(StudyMismatch, match=r"scratch\.run.*training\.batch_size: 8 → 16"):
        folder.begin(other)
    folder.store(network, HISTORY, {})
    with pytest.raises(StudyMismatch, match=r"training\.batch_size: 8 → 16.*Remove that folder"):
        folder.begin(other)


def test_no_champion_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"Expected a trained champion.*make champion"):
        read_champion(tmp_path)
    for damage in ("{", json.dumps({"images": 3}), "[]"):
        (tmp_path / "champion.json").write_text(damage)
        with pytest.raises(StudyError, match=r"champion's run wrote in .*champion\.json.*Remove"):
            read_champion(tmp_path)


def test_a_damaged_run_is_refused_with_what_to_do(folder: ChampionFolder) -> None:
    folder.begin(IDENTITY)
    (folder.run / "identity.json").write_text("{")
    with pytest.raises(StudyError, match=r"identity\.json.*Remove the folder"):
        folder.begin(IDENTITY)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file"):
        ChampionFolder(tmp_path / "file", "scratch").begin(IDENTITY)


def test_in_an_object_store_a_run_is_begun_continued_stored_and_read(tmp_path: Path, network: Network) -> None:
    root = parse_path(f"memory://{tmp_path.name}/champion")
    folder = ChampionFolder(root, "scratch")
    assert folder.begin(IDENTITY) is None
    checkpoint(tmp_path, 2)
    for file in tmp_path.rglob("*.npz"):
        (folder.run / file.relative_to(tmp_path).as_posix()).write_bytes(file.read_bytes())
    (folder.run / "attempt-b" / "snapshot.json").write_text("{")
    kept = folder.begin(IDENTITY)
    assert kept is not None
    assert read_checkpoint(kept).history[-1].epoch == 2
    assert not (folder.run / "attempt-b").exists()
    folder.store(network, HISTORY, {"images": 56})
    folder.clean_up()
    assert read_champion(folder.final).facts["images"] == 56
    assert sorted(file_names(root)) == ["scratch/champion.json", "scratch/history.parquet", "scratch/model.weights.h5"]
