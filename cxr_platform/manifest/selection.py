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
from cxr_platform.intake.layouts.vocabulary import judge_view
from cxr_platform.intake.overrule import OVERRULABLE, Overrule
from cxr_platform.intake.quality import judge
from cxr_platform.labels import CLASSES, PAPER_COUNTS
from cxr_platform.manifest.records import Decoded, FilmFacts


@dataclass(frozen=True)
class Taken:
    """A film that takes part so far."""

    candidate: Candidate
    decoded: Decoded

    @property
    def facts(self) -> FilmFacts:
        """What decoding measured; a taken film always has it."""
        return cast(FilmFacts, self.decoded.facts)

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
    """A class with fewer films than asked for."""

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
            film = Taken(candidate, _present(record, candidate))
            refusal = _seen(film, overrule, config)
            if refusal is None:
                taken.append(film)
        if refusal is not None:
            excluded.append(Excluded(candidate.source_path, refusal, record))
    return taken, excluded


def _told(candidate: Candidate, overrule: Overrule) -> Refusal | None:
    denied = candidate.source_path in overrule.deny
    return Refusal("denied", "named in the deny list") if denied else candidate.refusal


def _seen(film: Taken, overrule: Overrule, config: IntakeConfig) -> Refusal | None:
    record = film.decoded
    if record.facts is None:
        return Refusal(record.reason or "undecodable", record.detail)
    if film.candidate.source_path in overrule.allow:
        return None
    view = judge_view(film.candidate.view or record.facts.view, config.selection)
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
    """Raise `ConfigError` for a film of the allow list that none may overrule the exclusion of."""
    for item in excluded:
        if item.source_path in overrule.allow:
            raise ConfigError(
                f"Expected films in allow that are excluded for {', '.join(OVERRULABLE)}, or not at all.",
                received=f"{item.source_path}: {item.refusal.reason}, {item.refusal.detail}",
                advice="Take it out of the allow list.",
            )


def part_conflicts(taken: Sequence[Taken]) -> Split:
    """Take out identical pixels that stand under different labels: which of them is right cannot be told.

    An external film never takes out one of the study.
    """
    every: Labels = defaultdict(set)
    study: Labels = defaultdict(set)
    for film in taken:
        for labels in (every, study) if _in_study(film) else (every,):
            labels[film.facts.pixel_sha256].add(film.candidate.label)
    return _part(taken, lambda film: _conflict((study if _in_study(film) else every)[film.facts.pixel_sha256]))


def _conflict(labels: set[str | None]) -> Refusal | None:
    if len(labels) == 1:
        return None
    return Refusal("conflicting-label", f"the same pixels stand under {' and '.join(sorted(map(str, labels)))}")


def part_repeats(taken: Sequence[Taken]) -> Split:
    """Take out all but the first film with the same pixels, a film of the study before an external one."""
    first: dict[str, str] = {}
    for film in sorted(taken, key=lambda film: (film.candidate.role != "study", film.candidate.source_path)):
        first.setdefault(film.facts.pixel_sha256, film.candidate.source_path)

    def refuse(film: Taken) -> Refusal | None:
        kept = first[film.facts.pixel_sha256]
        return None if kept == film.candidate.source_path else Refusal("duplicate", f"the same pixels as {kept}")

    return _part(taken, refuse)


def part_overlap(taken: Sequence[Taken], groups: Mapping[str, str]) -> Split:
    """Take out external films that share a group with the study: scoring them would score films trained on.

    `groups` maps `image_id` to the group.
    """
    study = {groups[film.image_id]: film.candidate.source_path for film in taken if _in_study(film)}

    def refuse(film: Taken) -> Refusal | None:
        twin = None if _in_study(film) else study.get(groups[film.image_id])
        return Refusal("duplicate", f"external, but of one group with {twin} of the study") if twin else None

    return _part(taken, refuse)


def draw(taken: Sequence[Taken], selection: SelectionConfig, seed: int) -> tuple[Split, list[Shortfall]]:
    """Keep at most as many study films a class as the profile says (§2.1), and say which classes have fewer.

    Random and reproducible: films are ranked by a hash of seed and image_id, so that the draw depends neither on their
    order nor on a library's generator, and a film that is added displaces at most one other.
    """
    wanted = caps(selection)
    ranked = sorted((film for film in taken if _in_study(film)), key=lambda film: _rank(film, seed))
    drawn: Counter[str | None] = Counter()
    dropped: dict[str, Refusal] = {}
    for film in ranked:
        label = film.candidate.label
        drawn[label] += 1
        if label in wanted and drawn[label] > wanted[label]:
            dropped[film.image_id] = Refusal("not-drawn", f"{wanted[label]} of {label} were drawn")
    split = _part(taken, lambda film: dropped.get(film.image_id))
    short = [Shortfall(name, count, drawn[name]) for name, count in wanted.items() if drawn[name] < count]
    return split, short


def caps(selection: SelectionConfig) -> dict[str, int]:
    """The most films of each class; empty without a cap."""
    limits = {name: [PAPER_COUNTS[name]] if selection.caps == "paper" else [] for name in CLASSES}
    extra = [] if selection.limit is None else [selection.limit]
    return {name: min(known + extra) for name, known in limits.items() if known + extra}


def _rank(film: Taken, seed: int) -> str:
    return hashlib.sha256(f"{seed} {film.image_id}".encode()).hexdigest()


def _in_study(film: Taken) -> bool:
    return film.candidate.role == "study"


def _part(taken: Sequence[Taken], refuse: Callable[[Taken], Refusal | None]) -> Split:
    kept, excluded = [], []
    for film in taken:
        refusal = refuse(film)
        if refusal is None:
            kept.append(film)
        else:
            excluded.append(Excluded(film.candidate.source_path, refusal, film.decoded))
    return kept, excluded
