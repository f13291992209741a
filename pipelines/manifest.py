"""Build the manifest of the collections in a folder: which images take part, which do not and why, and the folds.

    python -m pipelines.manifest --data FOLDER --out data/manifests/NAME --profile quick

Again, the same command decodes only files that are new or have changed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cxr_platform.config import Profile, load_profile
from cxr_platform.errors import ManifestError, StudyMismatch
from cxr_platform.intake.reasons import REASONS
from pipelines.arguments import add_profile_arguments, profile_overrides
from pipelines.command import run_command
from pipelines.job_metrics import add_metrics_arguments, metrics_job
from pipelines.places import a_place, refuse_copies, settled_place
from pipelines.progress import make_progress


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 2 when the manifest cannot be built, 130 when interrupted."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cxr manifest", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=settled_place, required=True, help="folder or URI of public collections")
    parser.add_argument(
        "--out", type=a_place, required=True, help="the manifest's folder or URI; an older one is replaced"
    )
    parser.add_argument("--overrule", type=a_place, help="allow and deny lists (default: DATA/overrule.toml)")
    parser.add_argument("--external", default="", help="sources that are only scored, in no fold, separated by commas")
    parser.add_argument("--ray-address", help="a running Ray cluster; without it this machine alone")
    add_profile_arguments(parser)
    add_metrics_arguments(parser)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    refuse_copies(arguments.out)
    _build(arguments, arguments.out, load_profile(arguments.profile, profile_overrides(arguments)))
    return 0


def ensure_manifest(arguments: argparse.Namespace, profile: Profile, begun_with: str | None = None) -> None:
    """Build `arguments.manifest` from `arguments.data`, unless one of the same settings and files stands there.

    One of the content hash `begun_with` is a study's that is to be continued, and is never replaced: images that came
    since wait for another study. Raises `StudyMismatch` where its settings are others.
    """
    from cxr_platform.manifest.build import differing_settings, is_current
    from cxr_platform.manifest.store import open_manifest

    try:
        manifest = open_manifest(arguments.manifest)
    except ManifestError:  # none, or a broken one
        _build(arguments, arguments.manifest, profile)
        return
    of_study = manifest.content_hash == begun_with
    changes = differing_settings(manifest, profile, _external(arguments)) if of_study else []
    if changes:
        raise StudyMismatch(
            f"Expected the settings with which {arguments.manifest} was built, as a study was begun with it.",
            received="; ".join(changes),
            advice="Give the study another NAME, or go back to what it was started with.",
        )
    if is_current(manifest, arguments.data, profile, _external(arguments), _overrule(arguments)):
        print(f"Manifest: {arguments.manifest}, as it stands; `cxr manifest` builds it again")
    elif of_study:
        print(f"Manifest: {arguments.manifest}, with which the study was begun. {arguments.data} has changed since;")
        print("for a study of what is there now give another --name.")
    else:
        _build(arguments, arguments.manifest, profile)


def _external(arguments: argparse.Namespace) -> list[str]:
    return [name for name in arguments.external.split(",") if name]


def _overrule(arguments: argparse.Namespace) -> Path | None:
    return getattr(arguments, "overrule", None)


def _build(arguments: argparse.Namespace, destination: Path, profile: Profile) -> None:
    from cxr_platform.manifest.build import build_manifest
    from cxr_platform.monitoring.batch import manifest_counts

    with metrics_job("manifest", destination.name, arguments) as job, make_progress(sys.stdout) as progress:
        manifest = build_manifest(
            arguments.data,
            destination,
            profile,
            progress,
            overrule=_overrule(arguments),
            external=_external(arguments),
            address=arguments.ray_address,
        )
        images = {(label, source): n for label, found in manifest.info["counts"].items() for source, n in found.items()}
        manifest_counts(job, images, manifest.info["excluded"])
    print("\n".join(summary(manifest.info)))
    print(f"Manifest: {destination}")


def summary(info: dict[str, Any]) -> list[str]:
    """Lines for a person: images by class and source, excluded images by reason, shortfalls, files that are missing."""
    left_out = info["found"] - info["images"]
    lines = _count_table(info["counts"])
    lines.append(f"{info['images']} images taken + {left_out} excluded = {info['found']} files found.")
    for reason, count in sorted(info["excluded"].items(), key=lambda item: -item[1]):
        lines.append(f"Excluded: {count:6d}  {reason} ({REASONS[reason]})")
    for short in info["shortfalls"]:
        lines.append(f"Fewer than asked for: {short['label']} {short['found']} of {short['wanted']}.")
    for source, count in info["missing_files"].items():
        if count:
            lines.append(f"{source}: {count} rows of the table have no file.")
    if info["synthetic"]:
        lines.append("The images are synthetic: drawn by the phantom generator, not taken of anybody.")
    return [*lines, f"{info['folds']} folds. Content hash {info['content_hash']}."]


def _count_table(counts: dict[str, dict[str, int]]) -> list[str]:
    sources = sorted({source for by_source in counts.values() for source in by_source})
    rows = [["class", *sources, "total"]]
    for label, by_source in counts.items():
        cells = [by_source.get(source, 0) for source in sources]
        rows.append([label, *(str(cell) if cell else "" for cell in cells), str(sum(cells))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


if __name__ == "__main__":
    raise SystemExit(main())
