"""Which files become rows of the manifest, and the reason of every other one. Works on metadata; no pixels here."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, cast

from cxr_platform.config import IntakeConfig, SelectionConfig
from cxr_platform.errors import ConfigError, ManifestError
from cxr_platform.intake.candidate import Candidate, Refusal
from cxr_platform.intake.eligibility import judge_view
from cxr_platform.intake.overrule import OVERRULABLE, Overrule
from cxr_platform.intake.quality import judge
from cxr_platform.labels import CLASSES, PAPER_COUNTS
from cxr_platform.manifest.records import Decoded, ImageFacts


@dataclass(frozen=True)
class Taken:
    """An image that takes part so far."""

    candidate: Candidate
    decoded: Decoded

    @property
    def facts(self) -> ImageFacts:
        """What decoding measured; a taken image always has it."""
        return cast(ImageFacts, self.decoded.facts)

    @cached_property
    def image_id(self) -> str:
        """16 hex digits that follow from `source_path` alone: the same however often and wherever it is built."""
        return hashlib.sha256(self.candidate.source_path.encode()).hexdigest()[:16]


class Excluded(NamedTuple):
    """A file that takes no part; `decoded` is what its contact sheet shows, where it was decoded at all."""

    source_path: str
    refusal: Refusal
    decoded: Decoded | None


@dataclass(frozen=True)
class Shortfall:
    """A class with fewer images than asked for."""

    label: str
    wanted: int
    found: int


Split = tuple[list[Taken], list[Excluded]]
Labels = defaultdict[str, set[str | None]]


def judge_files(
    candidates: Iterable[Candidate], decoded: Mapping[str, Decoded], overrule: Overrule, config: IntakeConfig
) -> Split:
    """Part the files by what is known of each one alone. `decoded` maps `source_path` to the outcome of decoding.

    Raises `ManifestError` for a file that was neither refused by its collection nor decoded: none may be lost.
    """
    taken, excluded = [], []
    for candidate in candidates:
        record = decoded.get(candidate.source_path)
        refusal = _told(candidate, overrule)
        if refusal is None:
            image = Taken(candidate, _present(record, candidate))
            refusal = _seen(image, overrule, config)
            if refusal is None:
                taken.append(image)
        if refusal is not None:
            excluded.append(Excluded(candidate.source_path, refusal, record))
    return taken, excluded


def _told(candidate: Candidate, overrule: Overrule) -> Refusal | None:
    denied = candidate.source_path in overrule.deny
    return Refusal("denied", "named in the deny list") if denied else candidate.refusal


def _seen(image: Taken, overrule: Overrule, config: IntakeConfig) -> Refusal | None:
    record = image.decoded
    if record.facts is None:
        return Refusal(record.reason or "undecodable", record.detail)
    if image.candidate.source_path in overrule.allow:
        return None
    view = judge_view(image.candidate.view or record.facts.view, config.selection)
    return view or judge(record.facts.quality, config.quality)


def _present(record: Decoded | None, candidate: Candidate) -> Decoded:
    if record is None:
        raise ManifestError(
            f"Expected the outcome of decoding {candidate.source_path}.",
            received="none",
            advice="Build again; if it happens again, remove the folder MANIFEST.cache first.",
        )
    return record


def check_allowed(excluded: Iterable[Excluded], overrule: Overrule) -> None:
    """Raise `ConfigError` for an image of the allow list that none may overrule the exclusion of."""
    for item in excluded:
        if item.source_path in overrule.allow:
            raise ConfigError(
                f"Expected images in allow that are excluded for {', '.join(OVERRULABLE)}, or not at all.",
                received=f"{item.source_path}: {item.refusal.reason}, {item.refusal.detail}",
                advice="Take it out of the allow list.",
            )


def part_conflicts(taken: Sequence[Taken]) -> Split:
    """Take out identical pixels that stand under different labels: which of them is right cannot be told.

    An external image never takes out one of the study.
    """
    every: Labels = defaultdict(set)
    study: Labels = defaultdict(set)
    for image in taken:
        for labels in (every, study) if _in_study(image) else (every,):
            labels[image.facts.pixel_sha256].add(image.candidate.label)
    return _part(taken, lambda image: _conflict((study if _in_study(image) else every)[image.facts.pixel_sha256]))


def _conflict(labels: set[str | None]) -> Refusal | None:
    if len(labels) == 1:
        return None
    return Refusal("conflicting-label", f"the same pixels stand under {' and '.join(sorted(map(str, labels)))}")


def part_repeats(taken: Sequence[Taken]) -> Split:
    """Take out all but the first image with the same pixels, an image of the study before an external one."""
    first: dict[str, str] = {}
    for image in sorted(taken, key=lambda image: (image.candidate.role != "study", image.candidate.source_path)):
        first.setdefault(image.facts.pixel_sha256, image.candidate.source_path)

    def refuse(image: Taken) -> Refusal | None:
        kept = first[image.facts.pixel_sha256]
        return None if kept == image.candidate.source_path else Refusal("duplicate", f"the same pixels as {kept}")

    return _part(taken, refuse)


def part_overlap(taken: Sequence[Taken], groups: Mapping[str, str]) -> Split:
    """Take out external images that share a group with the study: scoring them would score images trained on.

    `groups` maps `image_id` to the group.
    """
    study = {groups[image.image_id]: image.candidate.source_path for image in taken if _in_study(image)}

    def refuse(image: Taken) -> Refusal | None:
        twin = None if _in_study(image) else study.get(groups[image.image_id])
        return Refusal("duplicate", f"external, but of one group with {twin} of the study") if twin else None

    return _part(taken, refuse)


def draw(taken: Sequence[Taken], selection: SelectionConfig, seed: int) -> tuple[Split, list[Shortfall]]:
    """Keep at most as many study images a class as the profile says (§2.1), and say which classes have fewer.

    Random and reproducible: images are ranked by a hash of seed and image_id, so that the draw depends neither on their
    order nor on a library's generator, and an image that is added displaces at most one other.
    """
    wanted = caps(selection)
    ranked = sorted((image for image in taken if _in_study(image)), key=lambda image: _rank(image, seed))
    drawn: Counter[str | None] = Counter()
    dropped: dict[str, Refusal] = {}
    for image in ranked:
        label = image.candidate.label
        drawn[label] += 1
        if label in wanted and drawn[label] > wanted[label]:
            dropped[image.image_id] = Refusal("not-drawn", f"{wanted[label]} of {label} were drawn")
    split = _part(taken, lambda image: dropped.get(image.image_id))
    short = [Shortfall(name, count, drawn[name]) for name, count in wanted.items() if drawn[name] < count]
    return split, short


def caps(selection: SelectionConfig) -> dict[str, int]:
    """The most images of each class; empty without a cap."""
    limits = {name: [PAPER_COUNTS[name]] if selection.caps == "paper" else [] for name in CLASSES}
    extra = [] if selection.limit is None else [selection.limit]
    return {name: min(known + extra) for name, known in limits.items() if known + extra}


def _rank(image: Taken, seed: int) -> str:
    return hashlib.sha256(f"{seed} {image.image_id}".encode()).hexdigest()


def _in_study(image: Taken) -> bool:
    return image.candidate.role == "study"


def _part(taken: Sequence[Taken], refuse: Callable[[Taken], Refusal | None]) -> Split:
    kept, excluded = [], []
    for image in taken:
        refusal = refuse(image)
        if refusal is None:
            kept.append(image)
        else:
            excluded.append(Excluded(image.candidate.source_path, refusal, image.decoded))
    return kept, excluded
