"""From folders of images to a validated manifest."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cxr_platform.config import Profile
from cxr_platform.errors import ConfigError, FoldError, ManifestInvalid
from cxr_platform.intake.data_folders import DataPaths, data_paths
from cxr_platform.intake.overrule import Overrule
from cxr_platform.intake.sources import Inventory
from cxr_platform.manifest.cache import DecodedCache, PixelReader, settings_key
from cxr_platform.manifest.contact_sheets import write_contact_sheets
from cxr_platform.manifest.decoding import DecodeTask, decode_new
from cxr_platform.manifest.folders import COUNTS_FILE, ManifestFolders, manifest_folders
from cxr_platform.manifest.inputs import ManifestInputs, input_hashes
from cxr_platform.manifest.patient_ids import PUBLISHED_SALT, SALT_VARIABLE, patient_salt
from cxr_platform.manifest.records import Decoded
from cxr_platform.manifest.rows import FREQUENT, make_info, make_looked_at, make_rows
from cxr_platform.manifest.schema import LookedAt
from cxr_platform.manifest.selection import Selection, select_images
from cxr_platform.manifest.store import Manifest, open_manifest, write_excluded, write_images, write_info
from cxr_platform.manifest.validate import validate_manifest
from cxr_platform.progress import NoProgress, Progress
from cxr_platform.storage.files import write_errors
from cxr_platform.storage.paths import absolute, is_remote

LARGE_PATIENT = 0.3
"""Share of a class from which on the images of one patient may be why there are no folds."""
UNSALTED = f"Patients of {{}} images come from DICOM headers; set {SALT_VARIABLE} unless these are public"


def build_manifest(
    data: DataPaths,
    destination: Path,
    profile: Profile,
    progress: Progress | None = None,
    *,
    overrule: Path | None = None,
    external: Collection[str] = (),
    outside: Collection[str] = (),
    address: str | None = None,
) -> Manifest:
    """Build the manifest of all collections under `data` in the folder `destination`, replacing one that is there.

    `data` is a folder, or several (`intake.data_folders`). `overrule` is the file of the allow and deny lists (default:
    `data`/overrule.toml, if it exists). `external` names sources that are scored but are in no fold, `outside` sources
    whose images are of none of the seven classes and are scored likewise, both in addition to those that a sources.toml
    marks. `address` is a Ray cluster whose nodes all see `data` and `destination`.

    Raises `SourceError` and `ConfigError` for collections and lists that cannot be used, `FoldError` if a class is too
    small for the folds, `StorageError` if `destination` cannot be written, `ManifestInvalid` if an expectation fails.
    After any exception the previous manifest is still in `destination`; in an object store, unless the copying of the
    uploaded manifest was interrupted.
    """
    folders = manifest_folders(absolute(destination))
    inputs = ManifestInputs(data, overrule, external, outside)
    build = _prepared(folders, inputs, profile, progress, address)
    with folders.build():
        build.run()
    return open_manifest(destination)


def look_at_images(
    data: DataPaths,
    destination: Path,
    profile: Profile,
    progress: Progress | None = None,
    *,
    overrule: Path | None = None,
    external: Collection[str] = (),
    outside: Collection[str] = (),
    address: str | None = None,
) -> tuple[LookedAt, Path]:
    """Select images as `build_manifest` does, and write only what a person looks at, to `destination`.look.

    That folder, which is returned, has the excluded files, contact sheets and counts. Classes without images are no
    error. A manifest in `destination` stays, and a later build does not decode the images again. Raises the errors of
    `build_manifest` but `FoldError` and `ManifestInvalid`.
    """
    folders = manifest_folders(absolute(destination))
    inputs = ManifestInputs(data, overrule, external, outside)
    build = _prepared(folders, inputs, profile, progress, address)
    with folders.build():
        return build.look(), folders.looked_at


def _prepared(
    folders: ManifestFolders, inputs: ManifestInputs, profile: Profile, progress: Progress | None, address: str | None
) -> "_Build":
    for folder in data_paths(inputs.data):
        _check_apart(folder.resolve(), folders.destination)
    inventory, lists = inputs.read(profile.intake.selection)
    for folder in inventory.folders:  # a sources.toml may name some outside of `data`
        _check_apart(folder, folders.destination)
    return _Build(folders, inventory, lists, profile, progress or NoProgress(), address)


def _check_apart(data: Path, destination: Path) -> None:
    if is_remote(destination) == is_remote(data) and destination.resolve().is_relative_to(data):
        raise ConfigError(
            f"Expected a manifest outside of the collections in {data}, whose images it would otherwise join.",
            received=destination,
            advice="Choose another place for the manifest.",
        )


def _name_large_patients(error: FoldError, selection: Selection) -> None:
    """Add to `error` the sources of which one patient has more than `LARGE_PATIENT` of a class that the error names."""
    patients = zip(selection.images, selection.patients, strict=True)
    images = [(i.candidate.source, i.candidate.label, patient) for i, patient in patients if i.in_study]
    of_class, of_source = Counter(label for _, label, _ in images), Counter(source for source, _, _ in images)
    of_patient = Counter((source, patient) for source, _, patient in images if patient)
    shares = Counter((source, label, patient) for source, label, patient in images if patient)
    named = {label for label in of_class if str(label) in str(error.received)}
    large = {(s, p) for (s, c, p), n in shares.items() if c in named and n > 1 and n > LARGE_PATIENT * of_class[c]}
    largest = {source: max(of_patient[s, p] for s, p in large if s == source) for source, _ in sorted(large)}
    texts = [f"{n} of {of_source[s]} images of {s} have one patient identifier" for s, n in largest.items()]
    error.received = "; ".join([str(error.received), *texts])


def _listed(numbers: Counter[str]) -> str:
    return ", ".join(f"{number} ({detail})" for detail, number in numbers.most_common(FREQUENT))


@dataclass(frozen=True)
class _Build:
    folders: ManifestFolders
    inventory: Inventory
    lists: Overrule
    profile: Profile
    progress: Progress
    address: str | None

    def run(self) -> None:
        cache = self._cache()
        inputs = input_hashes(self.inventory, self.lists)  # before images are read, so that later changes are noticed
        selection, decoded, pixels = self._select(cache)
        try:
            rows = self._rows(selection)
        except FoldError as error:
            lost = self._lost_files(self._write_looked_at(selection, pixels, error))
            self.folders.reject()
            error.received = f"{error.received}{'; ' + lost if lost else ''}"
            error.advice = f"{error.advice} Excluded files, contact sheets and counts are in {self.folders.failed}."
            raise
        with write_errors(self.folders.building):
            self._write(selection, rows, pixels, inputs)
        self._validate()
        self.folders.publish()
        with write_errors(self.folders.cache):
            cache.prune(decoded.values())

    def look(self) -> LookedAt:
        """Write what a person looks at, without folds and images."""
        selection, _, pixels = self._select(self._cache())
        error = None
        try:
            self._rows(selection)
        except FoldError as raised:
            error = raised
        looked_at = self._write_looked_at(selection, pixels, error)
        self.folders.keep_look()
        return looked_at

    def _cache(self) -> DecodedCache:
        with write_errors(self.folders.cache):
            return DecodedCache(self.folders.cache, settings_key(self.profile.intake, patient_salt()))

    def _select(self, cache: DecodedCache) -> tuple[Selection, dict[str, Decoded], PixelReader]:
        intake, salt = self.profile.intake, patient_salt()
        task = DecodeTask(intake, salt, cache.folder)
        decoded = decode_new(self.inventory.candidates, cache, task, self.progress, self.address)
        pixels = PixelReader(cache, intake.decoding.image_size)
        selection = select_images(
            self.inventory,
            decoded,
            self.lists,
            self.profile,
            salt,
            pixels,
            self.folders.building,
            self.progress,
        )
        if salt == PUBLISHED_SALT and selection.header_patients:
            self.progress.message(UNSALTED.format(selection.header_patients))
        if selection.shared_patients:
            self.progress.message(
                "An identifier of nearly all images is no patient: " + ", ".join(selection.shared_patients)
            )
        return selection, decoded, pixels

    def _rows(self, selection: Selection) -> pa.Table:
        """Return the rows; a `FoldError` names the sources of which one patient has a large share of a class."""
        try:
            return make_rows(selection, self.profile)
        except FoldError as error:
            _name_large_patients(error, selection)
            raise

    def _lost_files(self, looked_at: LookedAt) -> str:
        """Return what became of the files of each class with fewer images than folds, and of files without a class."""
        taken = {name: sum(by_source.values()) for name, by_source in looked_at.counts.items()}
        few = [(n, lost) for n, lost in looked_at.excluded_of_class.items() if taken[n] < self.profile.folds]
        files = (f"{name} {', '.join(f'{n} {reason}' for reason, n in lost.items())}" for name, lost in few)
        texts = [f"excluded files: {'; '.join(files)}"] if few else []
        if any(number < self.profile.folds for number in taken.values()):
            numbers = Counter(
                {d: n for details in looked_at.excluded_without_class.values() for d, n in details.items()}
            )
            texts += [f"files without a class: {_listed(numbers)}"] if numbers else []
        return "; ".join(texts)

    def _write_looked_at(self, selection: Selection, pixels: PixelReader, error: FoldError | None) -> LookedAt:
        looked_at = make_looked_at(selection, self.inventory, error)
        folder = self.folders.building
        with write_errors(folder):
            self._write_excluded(folder, selection, pixels)
            (folder / COUNTS_FILE).write_bytes(looked_at.to_json())
        return looked_at

    def _write_excluded(self, folder: Path, selection: Selection, pixels: PixelReader) -> None:
        write_excluded(folder, [(e.source_path, e.refusal.reason, e.refusal.detail) for e in selection.excluded])
        self.progress.message("Drawing contact sheets of excluded images")
        write_contact_sheets(folder / "contact_sheets", selection.excluded, pixels)

    def _write(self, selection: Selection, rows: pa.Table, pixels: PixelReader, inputs: dict[str, str]) -> None:
        folder, records = self.folders.building, [image.decoded for image in selection.images]

        def images(start: int, stop: int) -> npt.NDArray[np.uint8]:
            self.progress.step("Writing images", start, len(records))
            return pixels.images(records[start:stop])

        write_images(folder, rows, images, self.profile.intake.decoding.image_size)
        self.progress.step("Writing images", len(records), len(records))
        write_info(folder, make_info(rows, selection, self.inventory, self.profile, inputs))
        self._write_excluded(folder, selection, pixels)

    def _validate(self) -> None:
        self.progress.message("Validating with Great Expectations")
        try:
            validate_manifest(open_manifest(self.folders.building))
        except ManifestInvalid as error:
            self.folders.reject()
            error.advice = f"The previous manifest is unchanged; look at {self.folders.failed}. {error.advice}".strip()
            raise
