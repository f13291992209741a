"""Build the manifest of a folder of collections: which images take part, which are excluded and why, and the folds.

    cxr manifest --data FOLDER --out data/manifests/NAME --profile quick

Run again, the same command decodes only files that are new or have changed. With --look it only counts and draws
contact sheets, and writes no manifest.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_platform.errors import ConfigError, ManifestError, StudyMismatch
from cxr_platform.intake.candidate import REASONS
from pipelines.command import run_command
from pipelines.local_study import check_survives_job
from pipelines.options import (
    MetricsOptions,
    ProfileOptions,
    add_metrics_options,
    add_profile_options,
    location,
    names,
    parse_request,
    unchanging_location,
)
from pipelines.progress import make_progress

if TYPE_CHECKING:
    from cxr_platform.manifest.schema import ImageCounts


@dataclass(frozen=True)
class ManifestRequest:
    """Collections, the folder or URI of the manifest, and how it is built."""

    data: Sequence[Path]
    out: Path
    external: tuple[str, ...]
    outside: tuple[str, ...]
    ray_address: str | None
    profile: ProfileOptions
    metrics: MetricsOptions
    overrule: Path | None = None
    look: bool = False
    croissant: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, 2 if the manifest cannot be built, 130 when interrupted."""
    return run_command(lambda: run(parse_request(ManifestRequest, parser(), argv)))


def parser() -> argparse.ArgumentParser:
    """Return the options of `cxr manifest`."""
    parser = argparse.ArgumentParser(
        prog="cxr manifest", description="Build and validate the manifest of a folder of collections."
    )
    add_data_option(parser, required=True, help="folder or URI of collections, or several: --data A B")
    parser.add_argument(
        "--out", type=location, required=True, help="folder or URI of the manifest; an existing one is replaced"
    )
    parser.add_argument("--overrule", type=location, help="allow and deny lists (default: DATA/overrule.toml)")
    parser.add_argument(
        "--look",
        action="store_true",
        help="write counts, excluded files and contact sheets to OUT.look and no manifest; classes may lack images",
    )
    parser.add_argument(
        "--croissant",
        action="store_true",
        help="also describe the manifest as Croissant in OUT/croissant.json, for dataset tools (extra croissant)",
    )
    add_role_options(parser)
    parser.add_argument("--ray-address", help="address of a Ray cluster (default: this machine alone)")
    add_profile_options(parser)
    add_metrics_options(parser)
    return parser


def add_data_option(parser: Any, *, help: str, required: bool = False) -> None:
    """Add `--data` to a parser or a group of options; it takes several folders, and may be repeated."""
    parser.add_argument(
        "--data", type=unchanging_location, nargs="+", action="extend", required=required, metavar="FOLDER", help=help
    )


def add_role_options(parser: argparse.ArgumentParser) -> None:
    """Add `--external` and `--outside`."""
    parser.add_argument(
        "--external",
        type=names,
        default=(),
        metavar="SOURCES",
        help="sources that are in no fold and only scored, separated by commas",
    )
    add_outside_option(parser)


def add_outside_option(parser: argparse.ArgumentParser) -> None:
    """Add `--outside`."""
    parser.add_argument(
        "--outside",
        type=names,
        default=(),
        metavar="SOURCES",
        help="sources whose images are of none of the seven classes, such as tuberculosis: in no fold and only scored; "
        "any folders of images, separated by commas",
    )


def run(request: ManifestRequest) -> int:
    """Build the manifest, or look at its images, and print a summary; return 0."""
    if request.look and request.croissant:
        raise ConfigError(
            "Expected --look, which writes no manifest, or --croissant, which describes one.",
            received="both",
            advice="Leave one of them out.",
        )
    check_survives_job(request.out)
    if request.look:
        _look(request)
    else:
        _build(request)
    return 0


def ensure_manifest(request: ManifestRequest, study_hash: str | None = None) -> None:
    """Build the manifest unless there is a current one with the same settings.

    `study_hash` is the content hash of the manifest of a study that is to be continued. That manifest is never
    replaced; new images need another study. Raises `StudyMismatch` if its settings differ.
    """
    from cxr_platform.manifest.inputs import differing_settings, is_current
    from cxr_platform.manifest.store import open_manifest

    profile = request.profile.load()
    try:
        manifest = open_manifest(request.out)
    except ManifestError:  # none, or a broken one
        _build(request)
        return
    of_study = manifest.content_hash == study_hash
    changes = differing_settings(manifest, profile, request.external, request.outside) if of_study else []
    if changes:
        raise StudyMismatch(
            f"Expected the settings of {request.out}, the manifest with which the study was started.",
            received="; ".join(changes),
            advice="Give the study another NAME, or use the settings with which it was started.",
        )
    if is_current(manifest, request.data, profile, request.external, request.overrule, request.outside):
        print(f"Manifest: {request.out} is current; `cxr manifest` builds it again")
    elif of_study:
        folders = " or ".join(map(str, request.data))
        print(f"Manifest: {request.out}, with which the study was started. {folders} has changed since, or is read in")
        print("another way by this version (CHANGELOG.md): use another --name to run a study of the present images.")
    else:
        _build(request)


def _build(request: ManifestRequest) -> None:
    from cxr_platform.manifest.build import build_manifest
    from cxr_platform.manifest.croissant import check_installed, write_croissant
    from cxr_platform.monitoring.job_metrics import manifest_counts

    profile = request.profile.load()
    if request.croissant:
        check_installed()
    with request.metrics.job("manifest", request.out.name) as job, make_progress(sys.stdout) as progress:
        manifest = build_manifest(
            request.data,
            request.out,
            profile,
            progress,
            overrule=request.overrule,
            external=request.external,
            outside=request.outside,
            address=request.ray_address,
        )
        counts = manifest.info.counts
        images = {(label, source): n for label, sources in counts.items() for source, n in sources.items()}
        manifest_counts(job, images, manifest.info.excluded)
    print("\n".join(summary(manifest.info)))
    print(f"{manifest.info.folds} folds. Content hash {manifest.content_hash}.")
    print(f"Manifest: {request.out}")
    if request.croissant:
        print(f"Croissant: {write_croissant(manifest, request.out.name)}")


def _look(request: ManifestRequest) -> None:
    from cxr_platform.manifest.build import look_at_images

    with make_progress(sys.stdout) as progress:
        looked_at, folder = look_at_images(
            request.data,
            request.out,
            request.profile.load(),
            progress,
            overrule=request.overrule,
            external=request.external,
            outside=request.outside,
            address=request.ray_address,
        )
    print("\n".join(summary(looked_at)))
    for label, reasons in looked_at.excluded_of_class.items():
        print(f"Excluded of {label}: {', '.join(f'{number} {reason}' for reason, number in reasons.items())}.")
    for reason, details in looked_at.excluded_without_class.items():
        print(f"Without a class, {reason}: {'; '.join(f'{number} {detail}' for detail, number in details.items())}.")
    if looked_at.without_folds:
        print(f"A build of these images would fail. {looked_at.without_folds}")
    print("Only looked: no manifest was written, and nothing can be trained on this. Without --look one is built.")
    print(f"Excluded files, contact sheets and counts: {folder}")


def summary(info: "ImageCounts") -> list[str]:
    """Return lines with images by class and source, excluded files by reason, shortfalls and missing files."""
    lines = _count_table(info.counts)
    lines.append(f"{info.images} images selected + {info.files - info.images} excluded = {info.files} files.")
    for reason, count in sorted(info.excluded.items(), key=lambda item: -item[1]):
        lines.append(f"Excluded: {count:6d}  {reason} ({REASONS[reason]})")
    for short in info.shortfalls:
        lines.append(f"Fewer than asked for: {short.label} {short.available} of {short.wanted}.")
    for source, count in info.missing_files.items():
        if count:
            lines.append(f"{source}: {count} rows of the table have no file.")
    for source, columns in info.ignored_columns.items():
        lines.append(f"{source}: columns of the table that are not read: {', '.join(columns)}.")
    for source, count in info.shared_patients.items():
        lines.append(f"{source}: {count} images have one identifier, in several classes; it is taken as no patient.")
    for source, count in info.contrast.items():
        lines.append(f"{source}: {count} contrast images, whose finding is none of the seven classes; not trained on.")
    for source, count in info.outside.items():
        lines.append(f"{source}: {count} images outside the seven classes; only scored.")
    for source, count in info.reader_labels.items():
        lines.append(f"{source}: {count} images have a label by readers too.")
    totals: Counter[str] = Counter(info.contrast)
    totals.update(info.outside)
    for by_source in info.counts.values():
        totals.update(by_source)
    for source, known in info.known_patients.items():
        share = known / totals[source]
        lines.append(f"{source}: the patient is known for {known} of {totals[source]} images ({share:.0%}).")
    if info.synthetic:
        lines.append("The images are synthetic: drawn by the phantom generator, not taken of patients.")
    return lines


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
