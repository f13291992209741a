"""From folders of images to a validated manifest."""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from cxr_platform.config import Profile, SelectionConfig, differences
from cxr_platform.errors import ConfigError, ManifestInvalid
from cxr_platform.intake.overrule import FILE_NAME, Overrule, read_overrule
from cxr_platform.intake.sources import Inventory, find_candidates, mark_external
from cxr_platform.manifest.cache import DecodedCache, PixelReader, settings_key
from cxr_platform.manifest.contact_sheets import write_contact_sheets
from cxr_platform.manifest.decoding import DecodeTask, decode_new
from cxr_platform.manifest.inputs import inputs_of
from cxr_platform.manifest.patient_ids import PUBLISHED_SALT, SALT_VARIABLE, patient_salt
from cxr_platform.manifest.place import Place, place_of
from cxr_platform.manifest.rows import make_info, make_rows
from cxr_platform.manifest.store import Manifest, open_manifest, write_excluded, write_images, write_info
from cxr_platform.manifest.take_part import Choice, choose
from cxr_platform.manifest.validate import validate_manifest
from cxr_platform.progress import NoProgress, Progress
from cxr_platform.storage.files import read_errors, write_errors
from cxr_platform.storage.paths import absolute, is_remote

UNSALTED = f"Patients of {{}} images come from DICOM headers; set {SALT_VARIABLE} where these are no published ones"


def build_manifest(
    data: Path,
    destination: Path,
    profile: Profile,
    progress: Progress | None = None,
    *,
    overrule: Path | None = None,
    external: Collection[str] = (),
    address: str | None = None,
) -> Manifest:
    """Build the manifest of all collections under `data` in the folder `destination`, replacing one that is there.

    `overrule` names the allow and deny lists (default: `data`/overrule.toml, where there is one), `external` sources
    that are kept for scoring, in no fold, besides those that a sources.toml marks so; `address` a Ray cluster whose
    nodes all see `data` and `destination`.

    Raises `SourceError` and `ConfigError` for collections and lists that cannot be used, `FoldError` when a class is
    too small for the folds, `StorageError` when `destination` cannot be written, `ManifestInvalid` when an expectation
    fails. Whatever is raised, a manifest that was in `destination` before is still there; in an object store, unless
    the new one was uploaded and lost while it took its place.
    """
    place = place_of(absolute(destination))
    _keep_apart(data.resolve(), place.destination)
    found, lists = _find(data, overrule, external, profile.intake.selection)
    for folder in found.folders:  # a sources.toml may name some outside of `data`
        _keep_apart(folder, place.destination)
    with place.build():
        _Build(place, found, lists, profile, progress or NoProgress(), address).run()
    return open_manifest(destination)


def is_current(
    manifest: Manifest,
    data: Path,
    profile: Profile,
    external: Collection[str] = (),
    overrule: Path | None = None,
) -> bool:
    """Whether `manifest` was built with the settings of `profile`, of the images, tables and lists that are there now.

    No image is opened: an image that was exchanged for one of its name and size is not noticed (`build_manifest` would).
    A manifest that lacks images which could not be read is not current: they may be readable by now. Raises as
    `build_manifest` does for collections that cannot be used.
    """
    if differing_settings(manifest, profile) or "unreadable" in manifest.info.get("excluded", {}):
        return False
    return _has(manifest, inputs_of(*_find(data, overrule, external, profile.intake.selection)))


def differing_settings(manifest: Manifest, profile: Profile, external: Collection[str] = ()) -> list[str]:
    """`key: before → now` for each setting of `profile` with which `manifest` was not built.

    Of `external` only those are told that are none in `manifest`: a sources.toml may have marked the others.
    """
    now = json.loads(json.dumps({"config": asdict(profile.intake), "folds": profile.folds, "seed": profile.seed}))
    changes = list(differences({key: manifest.info.get(key) for key in now}, now))
    table = manifest.table(["source", "role"]) if external else None
    marked = set() if table is None else set(table.filter(pc.equal(table["role"], "external"))["source"].to_pylist())
    return [*changes, *(f"external: {name} was not" for name in external if name not in marked)]


def _has(manifest: Manifest, facts: dict[str, Any]) -> bool:
    return {key: manifest.info.get(key) for key in facts} == json.loads(json.dumps(facts))


def _keep_apart(data: Path, destination: Path) -> None:
    if is_remote(destination) == is_remote(data) and destination.resolve().is_relative_to(data):
        raise ConfigError(
            f"Expected a manifest outside of the collections in {data}, whose images it would otherwise join.",
            received=destination,
            advice="Choose another place for the manifest.",
        )


def _find(
    data: Path, overrule: Path | None, external: Collection[str], selection: SelectionConfig
) -> tuple[Inventory, Overrule]:
    """The candidates, without the file of the lists that overrule them, and these lists."""
    with read_errors(data, remote_only=True):
        found = mark_external(find_candidates(data, selection), external)
    own = data.resolve() / FILE_NAME
    candidates = [candidate for candidate in found.candidates if candidate.path != own]
    file = overrule or (own if own.is_file() else None)
    known = {candidate.source_path for candidate in candidates}
    lists = read_overrule(file, known) if file else Overrule()
    return replace(found, candidates=[lists.lift(candidate) for candidate in candidates]), lists


@dataclass(frozen=True)
class _Build:
    place: Place
    found: Inventory
    lists: Overrule
    profile: Profile
    progress: Progress
    address: str | None

    def run(self) -> None:
        intake, salt = self.profile.intake, patient_salt()
        with write_errors(self.place.cache):
            cache = DecodedCache(self.place.cache, settings_key(intake.decoding, salt))
        inputs = inputs_of(self.found, self.lists)  # before images are read: what changes meanwhile is noticed later
        task = DecodeTask(intake, salt, cache.folder)
        decoded = decode_new(self.found.candidates, cache, task, self.progress, self.address)
        pixels = PixelReader(cache, intake.decoding.image_size)
        choice = choose(self.found.candidates, decoded, self.lists, self.profile, salt, pixels, self.place.building)
        if salt == PUBLISHED_SALT and choice.header_patients:
            self.progress.message(UNSALTED.format(choice.header_patients))
        with write_errors(self.place.building):
            self._write(choice, pixels, inputs)
        self._validate()
        self.place.publish()
        with write_errors(self.place.cache):
            cache.prune(decoded.values())

    def _write(self, choice: Choice, pixels: PixelReader, inputs: dict[str, str]) -> None:
        folder, records = self.place.building, [image.decoded for image in choice.taken]
        rows = make_rows(choice.taken, choice.patients, choice.groups, self.profile)

        def images(start: int, stop: int) -> npt.NDArray[np.uint8]:
            self.progress.step("Writing images", start, len(records))
            return pixels.images(records[start:stop])

        write_images(folder, rows, images, self.profile.intake.decoding.image_size)
        self.progress.step("Writing images", len(records), len(records))
        write_excluded(folder, [(e.source_path, e.refusal.reason, e.refusal.detail) for e in choice.excluded])
        write_info(folder, make_info(rows, choice, self.found, self.profile) | inputs)
        self.progress.message("Drawing contact sheets of what is excluded")
        write_contact_sheets(folder / "contact_sheets", choice.excluded, pixels)

    def _validate(self) -> None:
        self.progress.message("Validating with Great Expectations")
        try:
            validate_manifest(open_manifest(self.place.building))
        except ManifestInvalid as error:
            self.place.reject()
            error.advice = f"The manifest before it is untouched; look at {self.place.failed}. {error.advice}".strip()
            raise
