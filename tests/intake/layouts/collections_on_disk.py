"""Collections of empty files for tests of layouts, which read names and tables and open no image."""

from collections.abc import Mapping
from pathlib import Path

from cxr_platform.config import SelectionConfig
from cxr_platform.intake.candidate import Candidate
from cxr_platform.intake.sources import find_candidates


def plant(folder: Path, *files: str, **tables: str) -> Path:
    """Write empty `files`; `tables` maps names (`metadata_csv`) to contents, as keyword arguments have no dots."""
    contents = dict.fromkeys(files, "") | {".".join(name.rsplit("_", 1)): text for name, text in tables.items()}
    for name, text in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def images(folder: Path, **selection: object) -> Mapping[str, Candidate]:
    """Return path in the collection → candidate, for a folder that is one collection."""
    inventory = find_candidates(folder, SelectionConfig(**selection))  # type: ignore[arg-type]
    return {candidate.source_path.partition("/")[2]: candidate for candidate in inventory.candidates}


def verdicts(folder: Path, **selection: object) -> dict[str, str | None]:
    """Return path in the collection → class, or the reason of its refusal."""
    return {path: c.refusal.reason if c.refusal else c.label for path, c in images(folder, **selection).items()}
