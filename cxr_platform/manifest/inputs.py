"""What a manifest is built from: data folders, allow and deny lists, settings; and whether these are still the same."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from cxr_platform.config import Profile, SelectionConfig, differences
from cxr_platform.intake.data_folders import DataPaths, merged, read_data_folders
from cxr_platform.intake.overrule import FILE_NAME, Overrule, read_overrule
from cxr_platform.intake.sources import Inventory, mark_contrast, mark_external
from cxr_platform.manifest.records import file_key
from cxr_platform.manifest.store import Manifest


@dataclass(frozen=True)
class ManifestInputs:
    """Data folders, the file of the allow and deny lists, and the sources named as external or outside.

    Without that file (`None`) the lists in the folders count.
    """

    data: DataPaths
    overrule: Path | None = None
    external: Collection[str] = ()
    outside: Collection[str] = ()

    def read(self, selection: SelectionConfig) -> tuple[Inventory, Overrule]:
        """Return the candidates, without the files of the allow and deny lists, and these lists."""
        folders = read_data_folders(self.data, selection, self.outside)
        inventory = mark_contrast(mark_external(merged(folders), self.external), selection)
        places = {folder.path / FILE_NAME for folder in folders}
        candidates = [candidate for candidate in inventory.candidates if candidate.path not in places]
        if self.overrule is not None:
            lists = read_overrule(self.overrule, {candidate.source_path for candidate in candidates})
        else:
            own = [folder.overrule() for folder in folders]
            lists = Overrule(
                allow=frozenset().union(*(part.allow for part in own)),
                deny=frozenset().union(*(part.deny for part in own)),
            )
        return replace(inventory, candidates=[lists.lift(candidate) for candidate in candidates]), lists


def is_current(
    manifest: Manifest,
    data: DataPaths,
    profile: Profile,
    external: Collection[str] = (),
    overrule: Path | None = None,
    outside: Collection[str] = (),
) -> bool:
    """Return True if `manifest` was built with the settings of `profile` from the present images, tables and lists.

    No image is opened: a replaced image of the same name and size is not noticed (`build_manifest` would notice it).
    A manifest that excludes unreadable images is not current, as they may be readable by now. Raises the errors of
    `build_manifest` for collections that cannot be used.
    """
    if differing_settings(manifest, profile) or "unreadable" in manifest.info.excluded:
        return False
    inputs = input_hashes(*ManifestInputs(data, overrule, external, outside).read(profile.intake.selection))
    return inputs == {"files_hash": manifest.info.files_hash, "overrule_hash": manifest.info.overrule_hash}


def differing_settings(
    manifest: Manifest, profile: Profile, external: Collection[str] = (), outside: Collection[str] = ()
) -> list[str]:
    """Return `key: before → now` for each setting of `profile` with which `manifest` was not built.

    Of `external` and `outside`, only sources that are not so in `manifest` are listed: a sources.toml may have marked
    others.
    """
    before, now = (
        {"config": asdict(config), "folds": folds, "seed": seed}
        for config, folds, seed in (
            (manifest.info.config, manifest.info.folds, manifest.info.seed),
            (profile.intake, profile.folds, profile.seed),
        )
    )
    roles = manifest.table(["source", "role"]) if external or outside else None

    def not_marked(role: str, names: Collection[str]) -> list[str]:
        marked = set() if roles is None else set(roles.filter(pc.equal(roles["role"], role))["source"].to_pylist())
        return [f"{role}: {name} was not" for name in names if name not in marked]

    return [*differences(before, now), *not_marked("external", external), *not_marked("outside", outside)]


def input_hashes(inventory: Inventory, overrule: Overrule) -> dict[str, str]:
    """Return `files_hash` and `overrule_hash`, which tell if a manifest is current without opening an image.

    They cover the size of each file, what its collection states about it, origins, and the lists that overrule.
    """
    files = (
        [file_key(candidate).size, *(value for name, value in vars(candidate).items() if name != "path")]
        for candidate in inventory.candidates
    )
    return {
        "files_hash": _hash(chain(files, _origin_lines(inventory.origins))),
        "overrule_hash": _hash([sorted(overrule.allow), sorted(overrule.deny)]),
    }


def _origin_lines(origins: Mapping[str, str]) -> Iterator[list[Any]]:
    """Yield the origin of each source, and if several have it, that they share their patients.

    The latter makes manifests of older platforms, which split such patients over folds, out of date.
    """
    sources = Counter(origins.values())
    for source, origin in sorted(origins.items()):
        yield [source, origin, *["shared patients"] * (sources[origin] > 1)]


def _hash(lines: Iterable[list[Any]]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(json.dumps(line, default=vars).encode())
    return digest.hexdigest()
