import shutil
import tempfile
from pathlib import Path

import pyarrow.compute as pc
import pytest
from upath import UPath

from cxr_platform.errors import ConfigError, FoldError, ManifestInvalid, StorageError
from cxr_platform.intake.sources import Inventory
from cxr_platform.labels import CLASSES
from cxr_platform.manifest import validate
from cxr_platform.manifest.build import build_manifest, look_at_images
from cxr_platform.manifest.inputs import differing_settings, is_current
from cxr_platform.manifest.records import SelectedImage
from cxr_platform.manifest.rows import make_info
from cxr_platform.manifest.schema import LookedAt
from cxr_platform.manifest.selection import Selection
from cxr_platform.manifest.store import Manifest, open_manifest
from cxr_platform.validation import parse_record
from tests.intake.files import dicom
from tests.manifest.builders import PER_CLASS, brighter_copy, candidate, fill_cache, image, profile, refused, save
from tests.recorded_progress import RecordedProgress


def excluded(manifest: Manifest) -> dict[str, str]:
    table = manifest.excluded()
    return dict(zip(table["source_path"].to_pylist(), table["reason"].to_pylist(), strict=True))


def test_every_file_is_a_row_or_excluded_with_its_reason(built: Manifest, collection: Path) -> None:
    assert excluded(built) == {
        "classes/Edema/both.png": "conflicting-label",
        "classes/Fibrosis/both.png": "conflicting-label",
        "classes/Normal/flat.png": "low-contrast",
        "classes/Normal/text.png": "not-an-image",
        "cohen/images/c.png": "view",
    }
    files = [file for file in collection.rglob("*.png") if file.is_file()]
    assert built.info.images + len(excluded(built)) == built.info.files == len(files)


def test_counts_are_by_class_and_source(built: Manifest) -> None:
    assert built.info.counts["Covid19"] == {"classes": PER_CLASS, "cohen": 2}
    assert built.info.counts["Normal"] == {"classes": PER_CLASS + 2}
    assert list(built.info.counts) == list(CLASSES)


def test_images_of_a_patient_and_copies_of_an_image_are_one_group_in_one_fold(built: Manifest) -> None:
    rows = built.table(["source_path", "group_id", "fold_grouped"]).to_pylist()
    group = {row["source_path"]: (row["group_id"], row["fold_grouped"]) for row in rows}
    normal = "classes/Normal/"
    assert group["cohen/images/a.png"] == group["cohen/images/b.png"]
    assert group[normal + "image-0.png"] == group[normal + "same-pixels.bmp.png"] == group[normal + "brighter.png"]
    assert built.info.groups == {"1": built.info.images - 5, "2": 1, "3": 1}


def test_a_patient_in_two_sources_of_one_origin_is_in_one_fold_by_table_and_by_header(tmp_path: Path) -> None:
    data, destination = tmp_path / "data", tmp_path / "manifest"
    for number, label in enumerate(CLASSES):
        for i in range(PER_CLASS):
            for source in ("first", "second"):
                pixels = image(100 * number + 10 * i + len(source))
                save(pixels, data / "keys" / source / label / f"P{number}{i}" / f"{source}.png")
                file = data / "headers" / source / label / f"{source}-{i}.dcm"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(dicom(image(1000 + 100 * number + 10 * i + len(source)), PatientID=f"H{number}{i}"))
    names = [f"{kind}/{source}" for kind in ("keys", "headers") for source in ("first", "second")]
    tables = (f'[sources.{n.replace("/", "-")}]\npath = "{n}"\norigin = "{n.split("/")[0]}"\n' for n in names)
    (data / "sources.toml").write_text("".join(tables))
    fill_cache(data, destination, profile())
    manifest = build_manifest(data, destination, profile())

    rows = manifest.table(["source", "patient_id", "group_id", "fold_grouped"]).to_pandas()
    assert len(rows) == 4 * PER_CLASS * len(CLASSES)
    by_patient = rows.groupby("patient_id")
    assert set(by_patient["source"].nunique()) == {2}
    assert set(by_patient["group_id"].nunique()) == set(by_patient["fold_grouped"].nunique()) == {1}
    assert set(manifest.info.known_patients.values()) == {PER_CLASS * len(CLASSES)}


def test_no_patient_key_is_stored(built: Manifest) -> None:
    patients = set(built.table(["patient_id"])["patient_id"].to_pylist())
    assert len(patients) == 2  # none, and one that has two images
    assert "p1" not in patients


def test_the_same_images_give_the_same_hash_and_are_not_decoded_again(
    copy: tuple[Path, Path], collection: Path, built: Manifest
) -> None:
    _, destination = copy
    progress = RecordedProgress()
    again = build_manifest(collection, destination, profile(), progress)
    assert again.content_hash == built.content_hash
    assert progress.messages[0] == f"Images: 0 to decode, {built.info.files} from the cache"
    assert ("Writing images", built.info.images, built.info.images) in progress.steps


def test_an_image_that_is_added_changes_the_hash_and_no_other_row(copy: tuple[Path, Path], built: Manifest) -> None:
    data, destination = copy
    save(image(1000), data / "classes" / "Edema" / "new.png")
    fill_cache(data, destination, profile())
    again = build_manifest(data, destination, profile())
    assert again.content_hash != built.content_hash
    before = built.table(["image_id", "source_path", "pixel_sha256", "group_id"])
    after = again.table(before.column_names)
    assert after.filter(pc.is_in(after["image_id"], value_set=before["image_id"])) == before


def test_images_that_are_not_drawn_are_excluded_with_that_reason(copy: tuple[Path, Path], collection: Path) -> None:
    _, destination = copy
    manifest = build_manifest(collection, destination, profile(**{"intake.selection.limit": 3}))
    assert {sum(by_source.values()) for by_source in manifest.info.counts.values()} == {3}
    assert manifest.info.excluded["not-drawn"] == manifest.info.files - 21 - 5
    assert manifest.info.shortfalls == ()


def test_a_class_that_is_too_small_is_an_error_and_the_previous_manifest_stays(
    copy: tuple[Path, Path], collection: Path, built: Manifest
) -> None:
    _, destination = copy
    with pytest.raises(FoldError, match=r"Edema 4.*FOLDS"):
        build_manifest(collection, destination, profile(folds=5))
    assert open_manifest(destination).content_hash == built.content_hash
    assert not list(destination.parent.glob("*.building"))


def test_the_error_of_an_empty_class_says_what_became_of_its_files_and_keeps_them(
    copy: tuple[Path, Path], built: Manifest
) -> None:
    data, destination = copy
    for file in (data / "classes" / "Normal").iterdir():
        file.write_text("no image")
    fill_cache(data, destination, profile())
    with pytest.raises(FoldError, match=r"Normal 0; excluded files: Normal 8 not-an-image.*manifest\.failed"):
        build_manifest(data, destination, profile())
    failed = destination.with_name("manifest.failed")
    assert {"excluded.parquet", "contact_sheets", "counts.json"} == {entry.name for entry in failed.iterdir()}
    counts = parse_record(LookedAt, (failed / "counts.json").read_bytes(), "counts.json")
    assert counts.counts["Normal"] == {}
    assert counts.excluded_of_class["Normal"] == {"not-an-image": 8}
    assert (failed / "contact_sheets" / "not-an-image.png").is_file()
    assert open_manifest(destination).content_hash == built.content_hash


def test_the_error_of_an_empty_class_names_the_frequent_folders_and_findings_without_one(
    copy: tuple[Path, Path],
) -> None:
    data, destination = copy
    (data / "classes" / "Normal").rename(data / "classes" / "Gesund")
    table = data / "cohen" / "metadata.csv"
    table.write_text(table.read_text().replace("COVID-19", "Covid pos"))
    fill_cache(data, destination, profile())
    with pytest.raises(FoldError, match=r"files without a class: 8 \(folder Gesund .*3 \(finding Covid pos\)"):
        build_manifest(data, destination, profile())
    counts = parse_record(LookedAt, (destination.with_name("manifest.failed") / "counts.json").read_bytes(), "counts")
    assert counts.excluded_without_class["finding-not-studied"] == {"finding Covid pos": 3}


def test_the_error_of_large_groups_names_the_source_whose_images_are_of_one_patient(
    copy: tuple[Path, Path],
) -> None:
    data, destination = copy
    table = data / "cohen" / "metadata.csv"
    classes = data / "classes" / "Covid19"
    shutil.rmtree(classes)
    fill_cache(data, destination, profile())
    assert "p1" in table.read_text()
    with pytest.raises(FoldError, match=r"Covid19 1; 2 of 2 images of cohen have one patient identifier"):
        build_manifest(data, destination, profile())
    looked_at, _ = look_at_images(data, destination, profile())
    assert "2 of 2 images of cohen have one patient identifier" in looked_at.without_folds


def test_a_look_needs_no_images_of_a_class_and_leaves_the_manifest(copy: tuple[Path, Path], built: Manifest) -> None:
    data, destination = copy
    for file in (data / "classes" / "Normal").iterdir():
        file.write_text("no image")
    shutil.rmtree(data / "classes" / "Effusion")
    fill_cache(data, destination, profile())
    progress = RecordedProgress()
    looked_at, folder = look_at_images(data, destination, profile(), progress)
    assert folder == destination.with_name("manifest.look")
    assert {"excluded.parquet", "contact_sheets", "counts.json"} == {entry.name for entry in folder.iterdir()}
    assert parse_record(LookedAt, (folder / "counts.json").read_bytes(), "counts.json") == looked_at
    assert looked_at.excluded_of_class["Normal"] == {"not-an-image": 8}
    assert looked_at.counts["Effusion"] == looked_at.counts["Normal"] == {}
    assert "Effusion 0, Normal 0" in looked_at.without_folds
    assert looked_at.images + sum(looked_at.excluded.values()) == looked_at.files
    assert (folder / "contact_sheets" / "not-an-image.png").is_file()
    assert open_manifest(destination).content_hash == built.content_hash
    assert not destination.with_name("manifest.building").exists()


def test_a_look_at_files_of_which_none_is_an_image_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "data" / "Normal" / "a.png"
    file.parent.mkdir(parents=True)
    file.write_text("no image")
    fill_cache(tmp_path / "data", tmp_path / "manifest", profile())
    looked_at, _ = look_at_images(tmp_path / "data", tmp_path / "manifest", profile())
    assert (looked_at.images, looked_at.excluded) == (0, {"not-an-image": 1})


def test_a_look_at_images_that_give_folds_names_no_obstacle(copy: tuple[Path, Path], collection: Path) -> None:
    looked_at, folder = look_at_images(collection, copy[1], profile())
    assert looked_at.without_folds == ""
    assert not (folder / "manifest.json").exists()


def test_a_look_does_not_replace_a_folder_of_other_files(copy: tuple[Path, Path]) -> None:
    data, destination = copy
    notes = destination.with_name("manifest.look") / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("dear")
    with pytest.raises(StorageError, match=r"manifest\.look to be of an earlier build.*other files"):
        look_at_images(data, destination, profile())
    assert notes.read_text() == "dear"


def test_an_unknown_column_and_the_known_patients_are_in_manifest_json(copy: tuple[Path, Path]) -> None:
    data, destination = copy
    table = data / "cohen" / "metadata.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([f"{lines[0]},Krankennummer", *(f"{line},1" for line in lines[1:])]))
    fill_cache(data, destination, profile())
    info = build_manifest(data, destination, profile()).info
    assert info.ignored_columns == {"cohen": ["Krankennummer"]}
    assert info.known_patients == {"classes": 0, "cohen": 2}
    assert info.shared_patients == {}


def test_a_manifest_that_is_not_valid_is_kept_for_inspection(
    copy: tuple[Path, Path], collection: Path, built: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, destination = copy

    def invalid(manifest: Manifest) -> None:
        raise ManifestInvalid("The manifest is not valid.", advice="See there.")

    monkeypatch.setattr("cxr_platform.manifest.build.validate_manifest", invalid)
    with pytest.raises(ManifestInvalid, match=r"unchanged; look at .*manifest\.failed\. See there\."):
        build_manifest(collection, destination, profile(seed=5))
    assert open_manifest(destination).content_hash == built.content_hash
    assert open_manifest(destination.with_name("manifest.failed")).info.seed == 5


def test_the_allow_and_deny_lists_overrule_the_measures(copy: tuple[Path, Path], tmp_path: Path) -> None:
    data, destination = copy
    allow = 'allow = ["classes/Normal/flat.png", "cohen/images/c.png"]'
    deny = 'deny = ["classes/Edema/image-0.png", "classes/Normal/text.png"]'
    (data / "overrule.toml").write_text(f"{allow}\n{deny}\n")
    fill_cache(data, destination, profile())
    reasons = excluded(build_manifest(data, destination, profile()))
    assert not {"classes/Normal/flat.png", "cohen/images/c.png"} & set(reasons)
    assert reasons["classes/Edema/image-0.png"] == reasons["classes/Normal/text.png"] == "denied"
    assert not any("overrule" in path for path in reasons)


def test_a_list_that_names_an_absent_image_is_an_error(collection: Path, tmp_path: Path) -> None:
    lists = tmp_path / "lists.toml"
    lists.write_text('deny = ["classes/Edema/nothing.png"]')
    with pytest.raises(ConfigError, match=r"files of the collections.*nothing\.png"):
        build_manifest(collection, tmp_path / "manifest", profile(), overrule=lists)


def test_external_images_are_in_no_fold_and_copies_of_study_images_are_excluded(copy: tuple[Path, Path]) -> None:
    data, destination = copy
    save(brighter_copy(image(0)), data / "cohen" / "images" / "a.png")  # image(0) is Covid19/image-0.png of the study
    (data / "sources.toml").write_text(
        '[sources.classes]\npath = "classes"\n[sources.cohen]\npath = "cohen"\nrole = "external"\n'
    )
    (data / "cohen" / "metadata.csv").write_text(
        "patientid,finding,view,filename,modality\np1,COVID-19,PA,a.png,X-ray\np2,COVID-19,AP,b.png,X-ray\n"
    )
    fill_cache(data, destination, profile())
    manifest = build_manifest(data, destination, profile())
    rows = manifest.table(["source_path", "role", "fold_paper", "fold_grouped"]).to_pylist()
    assert [tuple(row.values()) for row in rows if row["role"] == "external"] == [
        ("cohen/images/b.png", "external", -1, -1)
    ]
    assert excluded(manifest)["cohen/images/a.png"] == "duplicate"
    assert {row["fold_grouped"] for row in rows if row["role"] == "study"} == {0, 1}


def test_contrast_images_are_in_the_fold_of_their_patient_and_change_no_other_row(
    copy: tuple[Path, Path], built: Manifest
) -> None:
    data, destination = copy
    table = data / "cohen" / "metadata.csv"
    patients = {"d": ("p1", "SARS"), "e": ("p7", "SARS"), "f": ("p7", "ARDS")}
    for number, name in enumerate(patients):
        save(image(2000 + number), data / "cohen" / "images" / f"{name}.png")
    rows = (f"{who},{finding},PA,{name}.png,X-ray,images,F,61\n" for name, (who, finding) in patients.items())
    table.write_text(table.read_text() + "".join(rows))
    fill_cache(data, destination, profile())
    manifest = build_manifest(data, destination, profile())

    rows_after = manifest.table().to_pylist()
    contrast = [row for row in rows_after if row["role"] == "contrast"]
    assert [row for row in rows_after if row["role"] != "contrast"] == built.table().to_pylist()
    assert [(row["source_path"], row["label"], row["finding"]) for row in contrast] == [
        ("cohen/images/d.png", None, "SARS"),
        ("cohen/images/e.png", None, "SARS"),
        ("cohen/images/f.png", None, "ARDS"),
    ]
    of_patient = next(row for row in rows_after if row["source_path"] == "cohen/images/a.png")
    keys = ("patient_id", "group_id", "fold_grouped")
    assert [contrast[0][key] for key in keys] == [of_patient[key] for key in keys]
    assert [contrast[1][key] for key in keys] == [contrast[2][key] for key in keys]
    assert {row["fold_paper"] for row in contrast} <= {0, 1}
    assert manifest.info.contrast == {"cohen": 3}
    assert manifest.info.counts == built.info.counts


def test_outside_images_are_in_no_fold_and_no_class_and_change_no_other_row(
    copy: tuple[Path, Path], built: Manifest
) -> None:
    data, destination = copy
    for number in range(3):
        save(image(3000 + number), data / "tb" / "Tuberculosis" / f"{number}.png")
    save(brighter_copy(image(0)), data / "tb" / "Tuberculosis" / "copy.png")  # image(0) is of the study
    fill_cache(data, destination, profile(), ["tb"])
    manifest = build_manifest(data, destination, profile(), outside=["tb"])

    rows = manifest.table().to_pylist()
    outside = [row for row in rows if row["role"] == "outside"]
    assert [row for row in rows if row["role"] != "outside"] == built.table().to_pylist()
    assert [(row["source_path"], row["label"], row["finding"]) for row in outside] == [
        (f"tb/Tuberculosis/{number}.png", None, "Tuberculosis") for number in range(3)
    ]
    assert {row["fold_paper"] for row in outside} == {row["fold_grouped"] for row in outside} == {-1}
    assert len({row["group_id"] for row in outside}) == 3
    assert excluded(manifest)["tb/Tuberculosis/copy.png"] == "duplicate"
    assert manifest.info.outside == {"tb": 3}
    assert (manifest.info.counts, manifest.info.contrast) == (built.info.counts, built.info.contrast)
    assert is_current(manifest, data, profile(), outside=["tb"])
    assert not is_current(manifest, data, profile())
    assert differing_settings(manifest, profile(), outside=["tb", "cohen"]) == ["outside: cohen was not"]


def test_several_data_folders_make_one_manifest(collection: Path, tmp_path: Path) -> None:
    places = tmp_path / "one" / "classes", tmp_path / "two" / "cohen"
    for place in places:
        shutil.copytree(collection / place.name, place)
    first = sorted((places[0] / "Normal").glob("image-*.png"))[0]
    (places[0] / "overrule.toml").write_text(f'deny = ["classes/Normal/{first.name}"]')
    fill_cache(places, tmp_path / "manifest", profile())
    manifest = build_manifest(places, tmp_path / "manifest", profile())
    assert set(manifest.info.known_patients) == {"classes", "cohen"}
    assert excluded(manifest)[f"classes/Normal/{first.name}"] == "denied"
    assert "classes/overrule.toml" not in excluded(manifest)
    assert is_current(manifest, places, profile())
    assert not is_current(manifest, places[:1], profile())
    with pytest.raises(ConfigError, match="manifest outside of the collections"):
        build_manifest(places, places[1] / "manifest", profile())


def test_a_source_that_is_external_for_one_build_is_in_no_fold(copy: tuple[Path, Path], built: Manifest) -> None:
    data, destination = copy
    manifest = build_manifest(data, destination, profile(), external=["cohen"])
    rows = manifest.table(["source", "role", "fold_paper", "fold_grouped"]).to_pylist()
    assert {row["source"] for row in rows if row["role"] == "external"} == {"cohen"}
    assert all((row["role"] == "external") == (row["fold_paper"] == row["fold_grouped"] == -1) for row in rows)
    assert {row["fold_grouped"] for row in rows if row["source"] == "classes"} == {0, 1}
    assert manifest.info.images == built.info.images
    assert manifest.content_hash != built.content_hash


def test_a_manifest_within_the_collections_is_refused(collection: Path) -> None:
    with pytest.raises(ConfigError, match="outside of the collections"):
        build_manifest(collection, collection / "manifest", profile())


def test_a_destination_that_cannot_be_written_is_named(collection: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"able to write .*file/manifest"):
        build_manifest(collection, tmp_path / "file" / "manifest", profile())


def test_temporary_files_are_in_the_folder_of_the_build(
    copy: tuple[Path, Path], collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, destination = copy
    folders = []
    real = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **how: (folders.append(how["dir"]), real(**how))[1])
    build_manifest(collection, destination, profile())
    assert folders == [destination.with_name("manifest.building")]


def test_an_object_store_of_images_that_does_not_answer_is_an_error(
    store: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("cxr_platform.storage.retry.RETRY_SECONDS", 0.0)
    images = UPath("s3://images/build", skip_instance_cache=True)
    with pytest.raises(StorageError, match=r"able to read s3://images/build.*connect"):
        build_manifest(images, tmp_path / "manifest", profile())


def test_validation_is_kept_beside_the_images(built: Manifest) -> None:
    summary = (built.folder / validate.VALIDATION_FOLDER / "summary.md").read_text()
    assert "folds_of_group | met" in summary
    assert "not met" not in summary


def test_a_manifest_within_a_source_elsewhere_is_refused(copy: tuple[Path, Path], collection: Path) -> None:
    data, _ = copy
    (data / "sources.toml").write_text(f'sources.far = {{ path = "{collection / "classes"}" }}')
    with pytest.raises(ConfigError, match=r"outside of the collections in .*classes"):
        build_manifest(data, collection / "classes" / "manifest", profile())


def test_a_synthetic_source_that_is_external_makes_the_manifest_synthetic(built: Manifest) -> None:
    rows, external = built.table(), candidate("cohen/images/a.png", "Covid19", role="external")
    inventory = Inventory([], synthetic_sources=frozenset({"cohen"}))
    image = SelectedImage(external, refused("cohen/images/a.png"))
    selection, inputs = Selection([image], [None], ["a"], [], []), {"files_hash": "", "overrule_hash": ""}
    info = make_info(rows, selection, inventory, profile(), inputs)
    assert (info.synthetic, info.files, info.images) == (True, 0, 1)
    assert not make_info(rows, selection, Inventory([]), profile(), inputs).synthetic


def test_a_disk_that_is_full_while_images_are_written_is_an_error(
    copy: tuple[Path, Path], collection: Path, built: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, destination = copy

    def full(*_: object) -> None:
        Path("/dev/full").write_text("x")

    monkeypatch.setattr("cxr_platform.manifest.build.write_images", full)
    with pytest.raises(StorageError, match=r"able to write .*manifest\.building.*No space left"):
        build_manifest(collection, destination, profile())
    assert open_manifest(destination).content_hash == built.content_hash


def test_equal_collections_in_different_folders_give_the_same_manifest_json(
    copy: tuple[Path, Path], built: Manifest, tmp_path: Path
) -> None:
    data, _ = copy
    fill_cache(data, tmp_path / "other", profile())
    assert build_manifest(data, tmp_path / "other", profile()).info == built.info
