"""Pairs of images and masks, folds of patients, and Dice coefficients."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_platform.errors import SourceError
from cxr_platform.evidence.lung_scores import (
    SIDE,
    MaskedFolder,
    dice,
    left_out_rows,
    read_masked_folder,
    rows_of_fold,
    score,
    training_rows,
)
from cxr_platform.models.lung_segmenter import LungWeightsHeader


def picture(path: Path, value: int = 100, size: tuple[int, int] = (40, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0]), value, np.uint8)).save(path)


def test_masks_lie_beside_their_images_or_in_a_folder_of_their_own(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png"):
        picture(tmp_path / "one" / name)
    picture(tmp_path / "one" / "a@.png", 255)
    beside = read_masked_folder(tmp_path / "one", tmp_path / "one", "aerated")
    assert (beside.part, len(beside.pixels), beside.sizes.tolist()) == ("aerated", 1, [[40, 20]])
    assert beside.masks[0].sum() == SIDE * SIDE // 2  # an image twice as wide as high fills half of the square
    picture(tmp_path / "masks" / "b.png", 255)
    assert len(read_masked_folder(tmp_path / "one", tmp_path / "masks", "whole").pixels) == 1


def test_patients_come_from_a_table_or_are_the_files(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        picture(tmp_path / "images" / f"{name}.png")
        picture(tmp_path / "masks" / f"{name}.png", 255)
    table = tmp_path / "table.csv"
    table.write_text("file,person\na.png,7\nb.png,7\nc.png,\n")
    read = read_masked_folder(tmp_path / "images", tmp_path / "masks", "whole", (table, "file", "person"))
    assert read.patients.tolist() == ["7", "7", "c.png"]
    with pytest.raises(SourceError, match="columns file and patient"):
        read_masked_folder(tmp_path / "images", tmp_path / "masks", "whole", (table, "file", "patient"))


def test_folders_without_pairs_and_masks_that_do_not_fit_are_errors(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "masks" / "b.png", 255)
    with pytest.raises(SourceError, match="no pair"):
        read_masked_folder(tmp_path / "images", tmp_path / "masks", "whole")
    picture(tmp_path / "masks" / "a.png", 255, (30, 20))
    with pytest.raises(SourceError, match="40 × 20 pixels"):
        read_masked_folder(tmp_path / "images", tmp_path / "masks", "whole")
    (tmp_path / "masks" / "a.png").write_text("no image")
    with pytest.raises(SourceError, match=r"an image at .*a\.png"):
        read_masked_folder(tmp_path / "images", tmp_path / "masks", "whole")


def test_only_images_are_taken_for_the_image_of_a_mask_and_one_of_each_name(tmp_path: Path) -> None:
    for number, name in enumerate(("a.jpg", "b.png")):
        picture(tmp_path / "images" / name, 100 + number)
        picture(tmp_path / "masks" / f"{name[0]}.png", 255)
    (tmp_path / "images" / "a.txt").write_text("a report")
    read = read_masked_folder(tmp_path / "images", tmp_path / "masks", "whole")
    assert read.patients.tolist() == ["a.jpg", "b.png"]
    assert len(set(read.digests)) == 2
    picture(tmp_path / "images" / "a.png")
    with pytest.raises(SourceError, match=r"one image for the mask .*a\.png\. Received: a\.jpg and a\.png"):
        read_masked_folder(tmp_path / "images", tmp_path / "masks", "whole")


def drawn_folder(patients: str, digests: str) -> MaskedFolder:
    """One image for each character of `patients`, with digests to match."""
    images = np.zeros((len(patients), SIDE, SIDE), np.uint8)
    sizes = np.ones((len(patients), 2), int)
    return MaskedFolder("whole", images, images > 0, np.array(list(patients)), sizes, np.array(list(digests)))


def trained_header(folder: MaskedFolder, name: str, fold: str | None) -> LungWeightsHeader:
    """The header of weights trained on `folder`, or on what is not in `fold` of it."""
    rows = np.ones(len(folder.patients), bool)
    if fold:
        rows = training_rows(folder, (int(fold[0]), int(fold[2])))
    common = {"size": 96, "channels": (16, 32, 64), "sha256": "0", "parts": ("whole",), "steps": 1, "seed": 1}
    left_out = f"{fold} of {name}" if fold else None
    images = tuple(str(digest) for digest in folder.digests[rows])
    return LungWeightsHeader(**common, trained_on=(name,), left_out_fold=left_out, trained_images=images)


SET = drawn_folder("aabbccdd", "01234567")


def test_weights_score_the_fold_that_they_were_trained_without() -> None:
    rows, fold = left_out_rows(SET, "real", trained_header(SET, "real", "1/2"))
    assert fold == "1/2"
    assert (rows == rows_of_fold(SET.patients, 1, 2)).all()
    other = drawn_folder("xyz", "abc")
    rows, fold = left_out_rows(other, "other", trained_header(SET, "real", "1/2"))
    assert (rows.all(), fold) == (True, None)


@pytest.mark.parametrize(
    "folder",
    [
        drawn_folder("01234567", "01234567"),  # --patients was forgotten
        drawn_folder("aabbccdde", "012345678"),  # one image more, of a new patient
        drawn_folder("aabbccddd", "012345678"),  # one image more, of a patient trained on
        drawn_folder("aabbccdd", "89abcdef"),  # another folder with the same name
    ],
)
def test_a_set_that_is_not_the_one_trained_without_a_fold_is_refused(folder: MaskedFolder) -> None:
    header = trained_header(SET, "real", "1/2" if not rows_of_fold(SET.patients, 1, 2)[-1] else "2/2")
    with pytest.raises(SourceError, match=r"as in training, where fold ./2 was left out"):
        left_out_rows(folder, "real", header)


def test_images_trained_on_are_not_scored_under_another_name() -> None:
    header = trained_header(SET, "real", None)
    with pytest.raises(SourceError, match="8 of its 9 images were, in real"):
        left_out_rows(drawn_folder("aabbccdde", "012345678"), "other", header)
    rows, fold = left_out_rows(SET, "real", header)  # the result says that it was trained on real
    assert (rows.all(), fold) == (True, None)


def test_a_file_that_is_on_both_sides_of_a_fold_is_refused() -> None:
    rows = rows_of_fold(SET.patients, 1, 2)
    digests = SET.digests.copy()
    digests[np.flatnonzero(rows)[0]] = digests[np.flatnonzero(~rows)[0]]
    with pytest.raises(SourceError, match="1 files that are there twice"):
        training_rows(drawn_folder("".join(SET.patients), "".join(digests)), (1, 2))


def test_folds_hold_every_patient_once() -> None:
    patients = np.array([f"P{i // 3}" for i in range(60)])
    folds = np.stack([rows_of_fold(patients, fold, 4) for fold in (1, 2, 3, 4)])
    assert (folds.sum(axis=0) == 1).all()
    assert (folds.reshape(4, 20, 3).all(axis=2) | ~folds.reshape(4, 20, 3).any(axis=2)).all()
    assert (folds.sum(axis=1) == 15).all()


def test_dice_of_known_masks() -> None:
    one, half = np.ones((1, 2, 2), bool), np.array([[[True, True], [False, False]]])
    assert dice(one, half) == pytest.approx(2 / 3)
    assert dice(half, ~half) == 0
    assert dice(~one, ~one) == 1
    assert dice(~one, one) == 0


def test_a_score_counts_images_without_lungs_as_0() -> None:
    masks = np.zeros((4, SIDE, SIDE), bool)
    masks[:, :100] = True
    folder = replace(drawn_folder("aabc", "0123"), masks=masks)
    predicted = masks.copy()
    predicted[0] = False
    made = score(predicted, folder, "method", "set")
    assert (made.count, made.patients, made.not_found) == (4, 3, 1)
    assert made.dice.value == 0.75
    assert made.dice.low < 0.75 < made.dice.high
