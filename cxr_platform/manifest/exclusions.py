"""The rules that exclude files from a manifest: what is known of each alone, labels, copies, groups and the draw."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from cxr_platform.config import IntakeConfig, SelectionConfig
from cxr_platform.errors import ConfigError, ManifestError
from cxr_platform.intake.candidate import Candidate, Refusal
from cxr_platform.intake.eligibility import judge_image
from cxr_platform.intake.overrule import OVERRULABLE, Overrule
from cxr_platform.labels import CLASSES, PAPER_COUNTS
from cxr_platform.manifest.records import Decoded, ExcludedFile, SelectedImage
from cxr_platform.manifest.schema import Shortfall

Split = tuple[list[SelectedImage], list[ExcludedFile]]
"""Images that remain, and those that a rule excludes."""


def judge_files(
    candidates: Iterable[Candidate], decoded: Mapping[str, Decoded], overrule: Overrule, config: IntakeConfig
) -> Split:
    """Split the files by what is known of each one alone.

    Raises `ManifestError` for a file that was neither refused by its collection nor decoded, so that none is lost.
    """
    images, excluded = [], []
    for candidate in candidates:
        record = decoded.get(candidate.source_path)
        refusal = candidate.refusal
        if candidate.source_path in overrule.deny:
            refusal = Refusal("denied", "named in the deny list")
        if refusal is None:
            if record is None:
                raise ManifestError(
                    f"Expected the result of decoding {candidate.source_path}.",
                    received="none",
                    advice="Build again; if it happens again, remove the folder MANIFEST.cache first.",
                )
            image = SelectedImage(candidate, record)
            refusal = _judge_image(image, overrule, config)
            if refusal is None:
                images.append(image)
        if refusal is not None:
            excluded.append(ExcludedFile(candidate.source_path, refusal, record))
    return images, excluded


def _judge_image(image: SelectedImage, overrule: Overrule, config: IntakeConfig) -> Refusal | None:
    record = image.decoded
    if record.facts is None:
        return Refusal(record.reason or "undecodable", record.detail)
    if image.candidate.source_path in overrule.allow:
        return None
    return judge_image(record.facts, config, image.candidate.view)


def check_allowed(excluded: Iterable[ExcludedFile], overrule: Overrule) -> None:
    """Raise `ConfigError` for an image in the allow list whose reason of exclusion cannot be overruled."""
    for item in excluded:
        if item.source_path in overrule.allow:
            raise ConfigError(
                f"Expected images in allow that are excluded for {', '.join(OVERRULABLE)}, or not at all.",
                received=f"{item.source_path}: {item.refusal.reason}, {item.refusal.detail}",
                advice="Take it out of the allow list.",
            )


def exclude_conflicts(images: Sequence[SelectedImage]) -> Split:
    """Exclude identical pixels with different labels, as it is unknown which label is right.

    An external image never excludes one of the study, and a contrast or outside image, which has no label, excludes no
    other.
    """
    all_labels: defaultdict[str, set[str]] = defaultdict(set)
    study_labels: defaultdict[str, set[str]] = defaultdict(set)
    for image in images:
        for labels in (all_labels, study_labels) if image.in_study else (all_labels,):
            if image.has_class:
                labels[image.facts.pixel_sha256].add(str(image.candidate.label))

    def refuse(image: SelectedImage) -> Refusal | None:
        labels = (study_labels if image.in_study else all_labels)[image.facts.pixel_sha256]
        if not image.has_class:
            kind = "a contrast" if image.is_contrast else "an outside"
            text = f"{kind} image whose pixels have the label {' and '.join(sorted(labels))}"
            return Refusal("conflicting-label", text) if labels else None
        text = f"the same pixels have the labels {' and '.join(sorted(labels))}"
        return Refusal("conflicting-label", text) if len(labels) > 1 else None

    return _split(images, refuse)


def exclude_repeats(images: Sequence[SelectedImage]) -> Split:
    """Exclude all but the first image with the same pixels: of the study, then external or contrast, then outside."""
    first: dict[str, str] = {}
    for image in sorted(images, key=lambda i: (not i.in_study, i.is_outside, i.candidate.source_path)):
        first.setdefault(image.facts.pixel_sha256, image.candidate.source_path)

    def refuse(image: SelectedImage) -> Refusal | None:
        kept = first[image.facts.pixel_sha256]
        return None if kept == image.candidate.source_path else Refusal("duplicate", f"the same pixels as {kept}")

    return _split(images, refuse)


def exclude_overlap(images: Sequence[SelectedImage], groups: Mapping[str, str]) -> Split:
    """Exclude external images that share a group with the study, as they would score images that were trained on.

    `groups` maps `image_id` to the group.
    """
    study = {groups[image.image_id]: image.candidate.source_path for image in images if image.in_study}

    def refuse(image: SelectedImage) -> Refusal | None:
        twin = None if image.in_study else study.get(groups[image.image_id])
        return Refusal("duplicate", f"external, but of one group with {twin} of the study") if twin else None

    return _split(images, refuse)


def place_contrast(
    contrast: Sequence[SelectedImage],
    related: Sequence[tuple[str, frozenset[str]]],
    images: Sequence[SelectedImage],
    groups: Mapping[str, str],
) -> tuple[list[SelectedImage], dict[str, str], list[ExcludedFile]]:
    """Return the contrast images that remain, their groups by image_id, and the excluded ones.

    `related` are the `related_groups` of each, `images` and `groups` the other images with the group of each image_id.
    A contrast image joins the study group that it is linked with. One that is linked with several may belong into
    several folds, and one that is linked with an external image would score that one: both are excluded.
    """
    study = {groups[image.image_id] for image in images if image.in_study}
    external = {groups[image.image_id]: image.candidate.source_path for image in images if not image.in_study}
    related_to = {image.image_id: relation for image, relation in zip(contrast, related, strict=True)}

    def refuse(image: SelectedImage) -> Refusal | None:
        linked = related_to[image.image_id][1]
        if outside := sorted(external[group] for group in linked & external.keys()):
            return Refusal("duplicate", f"a contrast image, but of one group with {outside[0]}, which is external")
        several = len(linked & study) > 1
        return Refusal("several-groups", f"linked with {len(linked & study)} groups of the study") if several else None

    kept, excluded = _split(contrast, refuse)
    own: dict[str, str] = {}
    for image in kept:
        name, linked = related_to[image.image_id]
        (own[image.image_id],) = linked & study or {name}  # of several groups of the study, none is kept
    return kept, own, excluded


def place_outside(
    outside: Sequence[SelectedImage],
    related: Sequence[tuple[str, frozenset[str]]],
    images: Sequence[SelectedImage],
    groups: Mapping[str, str],
) -> tuple[list[SelectedImage], dict[str, str], list[ExcludedFile]]:
    """Return the outside images that remain, their groups by image_id, and the excluded ones.

    `related` are the `related_groups` of each, `images` and `groups` the other images with the group of each image_id.
    An outside image that is linked with any of these is excluded: networks were trained on its patient, or it is scored
    already.
    """
    taken: dict[str, str] = {}
    for image in images:
        taken.setdefault(groups[image.image_id], image.candidate.source_path)
    related_to = {image.image_id: relation for image, relation in zip(outside, related, strict=True)}

    def refuse(image: SelectedImage) -> Refusal | None:
        linked = sorted(taken[group] for group in related_to[image.image_id][1] & taken.keys())
        return Refusal("duplicate", f"an outside image, but of one group with {linked[0]}") if linked else None

    kept, excluded = _split(outside, refuse)
    return kept, {image.image_id: related_to[image.image_id][0] for image in kept}, excluded


def draw_images(images: Sequence[SelectedImage], config: SelectionConfig, seed: int) -> tuple[Split, list[Shortfall]]:
    """Keep at most as many study images per class as the profile allows (§2.1); list the classes that have fewer.

    Images are ranked by a hash of seed and image_id, so the draw depends neither on their order nor on a library's
    generator, and an added image displaces at most one other.
    """
    wanted = class_limits(config)
    drawn: Counter[str | None] = Counter()
    refusals: dict[str, Refusal] = {}
    for image in sorted((image for image in images if image.in_study), key=lambda image: _rank(image, seed)):
        label = image.candidate.label
        drawn[label] += 1
        if label in wanted and drawn[label] > wanted[label]:
            refusals[image.image_id] = Refusal("not-drawn", f"{wanted[label]} of {label} were drawn")
    split = _split(images, lambda image: refusals.get(image.image_id))
    shortfalls = [
        Shortfall(label=name, wanted=count, available=drawn[name])
        for name, count in wanted.items()
        if drawn[name] < count
    ]
    return split, shortfalls


def _rank(image: SelectedImage, seed: int) -> str:
    return hashlib.sha256(f"{seed} {image.image_id}".encode()).hexdigest()


def class_limits(config: SelectionConfig) -> dict[str, int]:
    """Return the largest number of images per class; empty without a limit."""
    limits = {name: [PAPER_COUNTS[name]] if config.caps == "paper" else [] for name in CLASSES}
    extra = [] if config.limit is None else [config.limit]
    return {name: min(known + extra) for name, known in limits.items() if known + extra}


def _split(images: Sequence[SelectedImage], refuse: Callable[[SelectedImage], Refusal | None]) -> Split:
    kept, excluded = [], []
    for image in images:
        refusal = refuse(image)
        if refusal is None:
            kept.append(image)
        else:
            excluded.append(ExcludedFile(image.candidate.source_path, refusal, image.decoded))
    return kept, excluded
