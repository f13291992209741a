"""The records in the folder of a study: `study.json`, `trial.json` of a finished trial, `state.json` of a running one.

A study here is a set of trials (strategies × folds) over one manifest, not a DICOM study. The records of trials are
read by `storage.trial_files`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import AwareDatetime, Field, ValidationInfo, field_validator, model_validator
from typing_extensions import Self

from cxr_platform.config import Count, Precision, Profile, Protocol, Storage
from cxr_platform.domain.strategies import STRATEGY_NAMES, ordered, strategy_by_name
from cxr_platform.errors import CxrError, StudyError
from cxr_platform.labels import CLASSES
from cxr_platform.validation import Record, parse_record

RERUN = "The file is damaged or of another version: run the study again, or give another name."


NO_FOLD = 2**16
"""Fold of a champion, to which no image belongs: it is trained on all study images and tested on none."""


class TrialKey(NamedTuple):
    """One strategy on one fold, or on all images (`NO_FOLD`)."""

    strategy: str
    fold: int

    def __str__(self) -> str:
        return f"{self.strategy} on all images" if self.fold == NO_FOLD else f"{self.strategy} fold {self.fold}"


class Hardware(Record):
    """Processor, number of logical processors, and names of the GPUs of a machine."""

    processor: str
    processors: int | None
    gpus: tuple[str, ...] = ()
    machine: str | None = None
    system: str | None = None

    def __str__(self) -> str:
        gpus = (f"{self.gpus.count(gpu)} × {gpu}" for gpu in dict.fromkeys(self.gpus))
        return ", ".join([f"{self.processors} × {self.processor}", *gpus])


class ManifestFacts(Record):
    """The manifest that a study was run on. `counts`: class → source → images; `study_images` are those in folds.

    `known_patients`: source → images in folds whose patient is known. `origins`: source → the hospital or publication
    that its images come from, for the sources of which it is stated; sources of one origin count as one. `contrast`:
    source → contrast images. `outside`: source → images of none of the classes, in no fold.
    """

    content_hash: str
    path: str
    images: int
    study_images: int
    synthetic: bool
    counts: dict[str, dict[str, int]]
    known_patients: dict[str, int]
    origins: dict[str, str] = Field(default_factory=dict)
    contrast: dict[str, int] = Field(default_factory=dict)
    outside: dict[str, int] = Field(default_factory=dict)

    def origin_of(self, source: str) -> str:
        """Return the origin of a source, which is the source itself if no other is stated."""
        return self.origins.get(source, source)

    def origins_of(self, sources: Iterable[str]) -> set[str]:
        """Return the different origins of `sources`."""
        return {self.origin_of(source) for source in sources}

    @field_validator("counts")
    @classmethod
    def _check_classes(cls, counts: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
        unknown = [name for name in counts if name not in CLASSES]
        if unknown:
            raise ValueError(f"classes out of {', '.join(CLASSES)}, not {', '.join(unknown)}")
        return counts


class ActivationRates(Record):
    """Measured rates of a node: images through the frozen layers, and bytes of files that are read."""

    images_per_second: float = Field(gt=0)
    bytes_per_second: float = Field(gt=0)


class StudyRecord(Record):
    """study.json. `strategies` are in the paper's order; `identity` is what must not change when a study continues.

    It has the backend of Keras and, once a trial was started, the precision of all trials. `activations` is cut → where
    those of frozen layers are kept, which changes the order of batches or their rounding, and `activation_rates` are
    those that the last choice by rates was made from, `None` where sizes alone decided. `left_out` is the origin that
    each fold of the protocol origins leaves out.
    """

    schema_version: Literal[1] = 1
    name: str
    protocol: Protocol
    strategies: tuple[str, ...] = Field(min_length=1)
    folds: int = Field(ge=2)
    identity: dict[str, Any]
    profile: Profile
    manifest: ManifestFacts
    versions: dict[str, str]
    hardware: Hardware
    started: AwareDatetime
    activations: dict[str, Storage] = Field(default_factory=dict)
    activation_rates: ActivationRates | None = None
    left_out: tuple[str, ...] = ()

    @field_validator("strategies")
    @classmethod
    def _order(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return ordered(names)
        except CxrError as error:
            raise ValueError(str(error).removeprefix("Expected ")) from error

    @field_validator("activations", mode="before")
    @classmethod
    def _by_cut(cls, stated: object, info: ValidationInfo) -> object:
        """Accept the record of an earlier version, where all cuts were in one place, or none was stated."""
        if isinstance(stated, str):
            cuts = (strategy_by_name(name).cut for name in info.data.get("strategies", ()))
            return {cut: stated for cut in cuts if cut}
        return {} if stated is None else stated

    @property
    def not_run(self) -> tuple[str, ...]:
        """Strategies of the paper that this study leaves out."""
        return tuple(name for name in STRATEGY_NAMES if name not in self.strategies)

    def trials(self) -> list[TrialKey]:
        """Every trial of the study, by strategy and fold."""
        return [TrialKey(strategy, fold) for strategy in self.strategies for fold in range(self.folds)]


class TrialImages(Record):
    """Numbers of images that a trial was trained on and tested on."""

    train: int
    test: int


class TrialSeconds(Record):
    """Seconds of a trial: `total` includes `earlier`, those of epochs before it was resumed from a checkpoint."""

    total: float
    earlier: float
    set_up: float
    prediction: float


class CacheUse(Record):
    """Use of a node's cache (`storage.node_cache`): reads of files that were there, and of files that were not.

    The latter fetched or made files of `fetched_bytes`. `evictions` is the number of files that made room for them.
    """

    hits: int = 0
    misses: int = 0
    fetched_bytes: int = 0
    evictions: int = 0

    def __add__(self, other: Self) -> Self:
        return type(self)(**{name: getattr(self, name) + getattr(other, name) for name in type(self).model_fields})

    def __sub__(self, other: Self) -> Self:
        return type(self)(**{name: getattr(self, name) - getattr(other, name) for name in type(self).model_fields})

    def __str__(self) -> str:
        reads = self.hits + self.misses
        found = f"{self.hits:,} of {reads:,} reads found their file"
        return f"{found}, {self.fetched_bytes / 2**30:.3g} GiB fetched or made, {self.evictions:,} files removed"


class TrialRecord(Record):
    """trial.json of a finished trial.

    `identity` is all that the weights depend on; `seed` is that of this fold. `loss_fall` is the fall of the mean
    training loss from the third to the last quarter of the epochs at full size, 0 with a single one. `accuracy` on the
    test fold, 0 to 1, is `None` for a champion. `cpus` and `gpus` are what the trial reserved (a fraction of a GPU,
    or several GPUs), and `devices` those that it trained on. `precision` is the type of its numbers; if
    `deterministic`, the same trial gives the same result every time on the same hardware. `mps` states that it shared
    its GPU through NVIDIA's Multi-Process Service. `cache` is what its last attempt used of its node's cache, and
    `activations` where those of its cut were; `None` in records of earlier versions, the latter also without a cut.
    """

    schema_version: Literal[1] = 1
    strategy: str
    fold: int
    identity: dict[str, Any]
    cut: str | None
    trained_layers: tuple[str, ...]
    images: TrialImages
    epochs: Count
    loss_fall: float
    accuracy: float | None
    seconds: TrialSeconds
    seed: int
    backend: str
    node: str
    cpus: float
    gpus: float
    devices: Count
    precision: Precision
    deterministic: bool
    mps: bool = False
    cache: CacheUse | None = None
    activations: Storage | None = None
    started: AwareDatetime
    finished: AwareDatetime
    versions: dict[str, str]
    hardware: Hardware

    @property
    def key(self) -> TrialKey:
        """Strategy and fold."""
        return TrialKey(self.strategy, self.fold)


def total_cache_use(trials: Iterable[TrialRecord]) -> CacheUse | None:
    """Return the sum over those of `trials` that state their use of caches, `None` if none does."""
    stated = [trial.cache for trial in trials if trial.cache is not None]
    return sum(stated[1:], stated[0]) if stated else None


class TrialState(Record):
    """state.json of a running trial, written at least once a minute; `seconds` of training in finished epochs."""

    schema_version: Literal[1] = 1
    strategy: str
    fold: int
    node: str
    started: AwareDatetime
    updated: AwareDatetime
    epoch: int = Field(ge=0)
    epochs: Count
    seconds: float
    cpus: float
    gpus: float

    @model_validator(mode="after")
    def _check_epoch(self) -> Self:
        if self.epoch > self.epochs:
            raise ValueError(f"an epoch of at most {self.epochs}, not {self.epoch}")
        return self

    @property
    def key(self) -> TrialKey:
        """Strategy and fold."""
        return TrialKey(self.strategy, self.fold)

    @property
    def remaining(self) -> float:
        """Fraction of the epochs that are left, 0 to 1."""
        return 1 - self.epoch / self.epochs


def read_study(folder: Path) -> StudyRecord:
    """Read `folder`/study.json; raise `StudyError` if it is absent, damaged or of another version."""
    file = folder / "study.json"
    try:
        content = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise StudyError(
            f"Expected the record of a study at {file}.",
            received="no such file",
            advice="Give the folder of a study, runs/NAME, as cross_validate writes it.",
        ) from None
    except OSError as error:
        raise StudyError(f"Expected the record of a study at {file}.", received=error.strerror or error) from error
    return parse_record(StudyRecord, content, str(file), StudyError, RERUN)
