from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cxr_platform.errors import StorageError
from cxr_platform.storage.node_cache import NodeCache
from cxr_platform.training.activations import files as files_module
from cxr_platform.training.activations.files import ActivationFiles, activation_key
from cxr_platform.training.inputs import FrozenInputs, gather
from tests.storage.object_store import folder, requests
from tests.training.builders import random_imagenet, tiny_profile, tiny_study

VALUES = np.arange(2 * 20 * 3).reshape(2, 20, 3).astype("float16")


@pytest.fixture
def files(tmp_path: Path) -> ActivationFiles:
    return ActivationFiles(tmp_path / "key", {"features": (3,)}, 2, 20, seed=1, cache=NodeCache(), per_file=7)


def write(files: ActivationFiles, numbers: range) -> None:
    for number in numbers:
        files.write(number, {"features": VALUES[:, files.rows_of_files[number]]})


def test_every_image_is_in_one_file_and_the_order_is_random(files: ActivationFiles) -> None:
    assert list(map(len, files.rows_of_files)) == [7, 7, 6]
    assert sorted(np.concatenate(files.rows_of_files)) == list(range(20))
    assert files.rows_of_files[0].tolist() != list(range(7))


def test_what_is_read_belongs_to_the_row_that_was_asked_for(files: ActivationFiles) -> None:
    write(files, range(3))
    chunks = files.of_cut("features")
    inputs = FrozenInputs(chunks.files, chunks.rows)
    rows = np.array([19, 0, 7, 7, 3])
    assert (gather(inputs.arrays, inputs.clean_index(rows)[0]) == VALUES[0, rows]).all()
    (positions,) = inputs.training_index(np.repeat(rows, 20), np.random.default_rng(0))
    views = gather(inputs.arrays, positions)[:, 0] > VALUES[0, -1, 0]
    assert 0 < views.mean() < 1
    assert (gather(inputs.arrays, positions) == VALUES[views.astype(int), np.repeat(rows, 20)]).all()


def test_only_the_files_that_an_interrupted_study_has_not_written_are_missing(files: ActivationFiles) -> None:
    assert files.missing() == [0, 1, 2]
    write(files, range(1, 2))
    assert files.missing() == [0, 2]
    second = files.of_cut("features").files[1].file
    second.write_bytes(second.read_bytes()[:-1])  # by a power cut
    assert files.missing() == [0, 1, 2]
    write(files, range(1, 2))
    assert files.missing() == [0, 2]
    both = replace(files, shapes={"features": (3,), "block_15": (1, 1, 4)})
    assert both.missing() == [0, 1, 2]


def test_files_of_an_object_store_are_listed_with_their_sizes(store: dict[str, str], files: ActivationFiles) -> None:
    remote = replace(files, folder=folder("activations") / "key")
    assert remote.missing() == [0, 1, 2]
    write(remote, range(3))
    (remote.folder / "features" / "part-00001.npy").write_bytes(b"")
    with requests(remote.folder) as sent:
        assert remote.missing() == [1]
    assert len(sent) == 1


def test_a_disk_without_room_is_an_error_that_names_the_file(files: ActivationFiles) -> None:
    files.folder.write_text("a file in place of the folder")
    with pytest.raises(StorageError, match="features"):
        write(files, range(1))


def test_the_key_changes_with_all_that_the_values_depend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, imagenet = tiny_study(tmp_path, ("off-the-shelf",)).plan, random_imagenet(tiny_profile())
    key = activation_key(plan, imagenet)
    others = [
        activation_key(replace(plan, profile=tiny_profile(**{name: value})), imagenet)
        for name, value in {"seed": 1, "augmentation.views": 2, "model.input_size": 64}.items()
    ]
    manifest = plan.manifest.model_copy(update={"content_hash": "another"})
    others.append(activation_key(replace(plan, manifest=manifest), imagenet))
    weights = {name: [array + 1 for array in arrays] for name, arrays in imagenet.items()}
    others.append(activation_key(plan, weights))
    for name, value in {"FORMAT": files_module.FORMAT + 1, "ActivationFiles.per_file": 7}.items():
        with monkeypatch.context() as changed:
            changed.setattr(f"{files_module.__name__}.{name}", value)
            others.append(activation_key(plan, imagenet))
    assert len({key, *others}) == 8
    same = [tiny_profile(**{"training.batch_size": 4}), tiny_profile(folds=3), tiny_profile(**{"resources.cpu": 2})]
    assert {activation_key(replace(plan, profile=profile), imagenet) for profile in same} == {key}
