"""`cxr lungs`: folders of images with masks, scores of the network in the package, and the page of results."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_platform.intake.phantoms.image import ImageKey, draw_image
from cxr_platform.models.lung_segmenter import build_segmenter, load_segmenter
from pipelines.lungs import main

SEED = 90_002


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of phantoms in images/, their lungs in masks/ and beside them, and a table of patients."""
    folder = tmp_path_factory.mktemp("collection")
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    lines = ["file,person"]
    for patient in range(4):
        drawing = draw_image(ImageKey(SEED, "Normal", patient, 0), 160)
        picture = Image.fromarray((255 * drawing.picture).astype(np.uint8))
        mask = Image.fromarray(255 * drawing.chest.whole_lungs.astype(np.uint8))
        picture.save(folder / "images" / f"{patient}.jpg", quality=95)
        mask.save(folder / "masks" / f"{patient}.png")
        lines.append(f"{patient}.jpg,P{patient // 2}")
    (folder / "table.csv").write_text("\n".join(lines))
    return folder


def folders(collection: Path) -> list[str]:
    return ["--images", str(collection / "images"), "--masks", str(collection / "masks")]


def test_the_network_in_the_package_is_scored_beside_the_outline(collection: Path, tmp_path: Path, capsys) -> None:
    out, page = tmp_path / "scores.json", tmp_path / "docs" / "lungs.md"
    patients = f"{collection / 'table.csv'}:file:person"
    assert main(["score", *folders(collection), "--name", "drawn", "--patients", patients, "--json", str(out)]) == 0
    outline, network = json.loads(out.read_text())["scores"]
    assert (network["images"], network["count"], network["patients"], network["part"]) == ("drawn", 4, 2, "whole")
    assert network["dice"]["value"] > 0.85 > outline["dice"]["value"]
    assert network["dice"]["low"] <= network["dice"]["value"] <= network["dice"]["high"]
    assert main(["page", str(out), "--out", str(page), "--note", "The first.", "--note", "The second."]) == 0
    text = page.read_text()
    assert "\n\nThe first.\n\nThe second.\n\n| masks by |" in text
    assert "--part whole --name" in text
    assert f"**{network['dice']['value']:.3f}**" in text
    assert "| drawn | whole | 4 (2) |" in text
    assert f"**{network['dice']['value']:.3f}**" in capsys.readouterr().out


def test_weights_with_a_fold_left_out_score_that_fold(collection: Path, tmp_path: Path) -> None:
    weights, out = tmp_path / "half.npz", tmp_path / "scores.json"
    chosen = [*folders(collection), "--name", "drawn"]
    assert main(["train", *chosen, "--fold", "1/2", "--steps", "1", "--out", str(weights)]) == 0
    assert main(["score", *chosen, "--weights", str(weights), "--json", str(out)]) == 0
    trained, _ = load_segmenter(weights)
    moved = [np.abs(a - b).max() for a, b in zip(trained.get_weights(), build_segmenter(1).get_weights(), strict=True)]
    assert min(moved[:-2]) > 0  # the last array is the output's offset, of which one half has no masks here
    (half,) = json.loads(out.read_text())["scores"][2:]
    patients = ["--patients", f"{collection / 'table.csv'}:file:person"]
    assert main(["score", *chosen, *patients, "--weights", str(weights), "--json", str(out)]) == 2
    assert (half["left_out_fold"], half["count"], half["trained_on"]) == ("1/2", 2, ["drawn"])


def test_training_needs_images_or_phantoms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--out", str(tmp_path / "x.npz")]) == 2
    assert capsys.readouterr().err.startswith("Expected --images with --masks, or --phantoms N")
    assert main(["train", "--phantoms", "2", "--steps", "0", "--out", str(tmp_path / "x.npz")]) == 2
    assert main(["train", "--phantoms", "2", "--fold", "1/2", "--out", str(tmp_path / "x.npz")]) == 2


@pytest.mark.parametrize("fold", ["0/2", "3/2", "1/1", "1", "a/b"])
def test_a_fold_that_does_not_exist_is_a_usage_error(fold: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "--phantoms", "2", "--fold", fold, "--out", str(tmp_path / "x.npz")])
    assert ended.value.code == 2


def test_a_page_of_another_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other.json").write_text('{"schema_version": 1}')
    assert main(["page", str(tmp_path / "other.json"), "--out", str(tmp_path / "page.md")]) == 2
    assert "other.json" in capsys.readouterr().err
