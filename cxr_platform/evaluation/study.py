"""What `study.json` says of a study: its name, protocol, folds, strategies, manifest and machine."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr_platform.domain.strategies import TITLES
from cxr_platform.errors import StudyError
from cxr_platform.labels import CLASSES

PROTOCOLS = ("grouped", "paper")
FIELDS: Mapping[str, type] = {
    "name": str,
    "protocol": str,
    "strategies": list,
    "folds": int,
    "profile": dict,
    "manifest": dict,
    "versions": dict,
    "hardware": dict,
    "started": str,
}
MANIFEST_FIELDS: Mapping[str, type] = {
    "content_hash": str,
    "path": str,
    "images": int,
    "synthetic": bool,
    "counts": dict,
}


@dataclass(frozen=True)
class StudyManifest:
    """The manifest that a study was run on; `counts` of images by class and source, as its building reported them.

    `study_images` are those in the folds; `None` in studies of before it was recorded.
    """

    content_hash: str
    path: str
    images: int
    synthetic: bool
    counts: Mapping[str, Mapping[str, int]]
    study_images: int | None = None


@dataclass(frozen=True)
class Study:
    """One study; `strategies` are in the paper's order, whatever the order in which they ran."""

    name: str
    protocol: str
    strategies: tuple[str, ...]
    folds: int
    profile: Mapping[str, Any]
    manifest: StudyManifest
    versions: Mapping[str, Any]
    hardware: Mapping[str, Any]
    started: str

    @property
    def not_run(self) -> tuple[str, ...]:
        """Strategies of the paper that this study leaves out."""
        return tuple(s for s in TITLES if s not in self.strategies)


def read_study(folder: Path) -> Study:
    """Read `folder`/study.json; raises `StudyError` when it is absent, no JSON, or lacks a field of the contract."""
    path = folder / "study.json"
    tree = _read_json(path)
    values = _fields(tree, FIELDS, f"{path}")
    manifest = _manifest(values["manifest"], f"{path}: manifest")
    _check_names(path, "strategies", values["strategies"], TITLES)
    _check_names(path, "protocol", [values["protocol"]], PROTOCOLS)
    _check_names(path, "manifest.counts", manifest.counts, CLASSES)
    if values["folds"] < 2:
        raise StudyError(f"{path}: expected at least 2 folds.", received=values["folds"])
    values["strategies"] = tuple(s for s in TITLES if s in values["strategies"])
    return Study(**{**values, "manifest": manifest})


def _manifest(tree: Any, where: str) -> StudyManifest:
    later = {"study_images": int} if isinstance(tree, dict) and tree.get("study_images") is not None else {}
    return StudyManifest(**_fields(tree, {**MANIFEST_FIELDS, **later}, where))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(
            f"Expected the record of a study at {path}.",
            received=error.strerror,
            advice="Give the folder of a study, runs/NAME, that pipelines.cross_validate wrote.",
        ) from error
    except ValueError as error:
        raise StudyError(f"Expected JSON in {path}.", received=error, advice="Run the study again.") from error


def _fields(tree: Any, expected: Mapping[str, type], where: str) -> dict[str, Any]:
    """The expected fields of `tree`, further ones left aside: the study writes more than evaluation needs."""
    if not isinstance(tree, dict):
        raise StudyError(f"{where}: expected an object.", received=type(tree).__name__)
    for name, kind in expected.items():
        if type(tree.get(name)) is not kind:
            received = repr(tree[name]) if name in tree else "no such field"
            raise StudyError(
                f"{where}: expected {name!r} of type {kind.__name__}.",
                received=received,
                advice="The file is of another version or was edited; run the study again.",
            )
    return {name: tree[name] for name in expected}


def _check_names(path: Path, field: str, names: Collection[str], known: Collection[str]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        received = ", ".join(map(repr, unknown)) or "none"
        raise StudyError(f"{path}: expected {field} out of {', '.join(known)}.", received=received)
