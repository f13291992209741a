"""Settings of a study: frozen dataclasses with a range for every number, read from a TOML file (a profile).

The dataclasses and their ranges need the standard library only, because the training core imports this module on
machines that have Keras and NumPy and no more. `load_profile` checks them with pydantic (`validation`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from cxr_platform.errors import ConfigError

Protocol = Literal["grouped", "paper"]


@dataclass(frozen=True)
class Range:
    """Bounds of a number: pydantic enforces them, the reference in docs/ prints them."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Add the bounds to pydantic's schema of the annotated number."""
        return {**handler(source), **{name: bound for name, bound in asdict(self).items() if bound is not None}}


Fraction = Annotated[float, Range(ge=0, le=1)]
"""A fraction of a whole, both ends included."""
Probability = Annotated[float, Range(ge=0, lt=1)]
"""A fraction below one."""
Positive = Annotated[float, Range(gt=0)]
Count = Annotated[int, Range(ge=1)]


class Settings:
    """Base class of the tables of a profile: pydantic accepts no other keys, no other types, and no NaN."""

    __pydantic_config__ = {"extra": "forbid", "strict": True, "allow_inf_nan": False}  # noqa: RUF012


@dataclass(frozen=True)
class DecodingConfig(Settings):
    """Limits of what is decoded at all, and how an image becomes `image_size` × `image_size` pixels (§2.1.4)."""

    image_size: Annotated[int, Range(ge=32, le=1024)] = 200  # pixels, both sides of the letterboxed image
    max_bytes: Count = 64 * 2**20  # of the file
    max_pixels: Count = 50_000_000  # of the image; the largest radiographs have some 20 million
    percentile_low: Annotated[float, Range(ge=0, lt=100)] = (
        0.5  # becomes black where the values of an image state no window of their own
    )
    percentile_high: Annotated[float, Range(gt=0, le=100)] = 99.5  # becomes white

    def __post_init__(self) -> None:
        if not self.percentile_low < self.percentile_high:
            raise ValueError(f"percentile_low below percentile_high, {self.percentile_high:g}")


@dataclass(frozen=True)
class QualityConfig(Settings):
    """What counts as a low-contrast, partial, lying or small image. The measures are defined in `intake/quality.py`."""

    min_contrast: Fraction = 0.20  # of the whole range black to white, 5th to 95th percentile
    min_std: Fraction = 0.06  # of the whole range
    max_aspect: Annotated[float, Range(ge=1)] = 2.2  # children's images are complete up to about 2.1
    max_flat_fraction: Fraction = 0.55  # the widest black borders round a complete thorax reach 0.50
    min_uprightness: Annotated[float, Range(ge=-2, le=2)] = -0.35  # on their side: -0.4 and below; upright: from -0.3
    min_side_pixels: Count = 100  # half of the 200 pixels of the letterbox


@dataclass(frozen=True)
class SelectionConfig(Settings):
    """Which images of the public collections take part (§2.1.1 to §2.1.3)."""

    frontal_only: bool = True
    no_finding_is_normal: bool = True
    single_finding_only: bool = False
    caps: Literal["none", "paper"] = "none"
    limit: Count | None = None
    duplicates: Literal["group", "drop"] = "group"
    near_duplicate_distance: Annotated[int, Range(ge=0, le=16)] = 8  # bits of 64; pairs are confirmed on fine structure


@dataclass(frozen=True)
class IntakeConfig(Settings):
    """From files to images."""

    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)


@dataclass(frozen=True)
class ModelConfig(Settings):
    """MobileNetV2 and the paper's head (§2.3.1)."""

    input_size: Annotated[int, Range(ge=32)] = 200
    alpha: Positive = 1.0
    dense_units: Count = 2500
    dropout: Probability = 0.5
    batch_norm_momentum: Probability = 0.9


@dataclass(frozen=True)
class AugmentationConfig(Settings):
    """Rotation and shift (§2.1.4). `views` is the fixed number of augmented views of what is frozen."""

    rotation_degrees: Annotated[float, Range(ge=0)] = 10.0
    shift_fraction: Fraction = 0.1
    views: Annotated[int, Range(ge=0)] = 4


@dataclass(frozen=True)
class ScheduleConfig(Settings):
    """How one family of strategies is trained: Adam, warm-up, cosine decay to zero."""

    epochs: Count
    learning_rate: Positive
    weight_decay: Annotated[float, Range(ge=0)] = 0.0


@dataclass(frozen=True)
class TrainingConfig(Settings):
    """What the paper does not state; the profile says why each value."""

    off_the_shelf: ScheduleConfig
    fine_tuning: ScheduleConfig
    scratch: ScheduleConfig
    batch_size: Annotated[int, Range(ge=2)] = 32
    warmup_fraction: Probability = 0.1
    label_smoothing: Probability = 0.0
    class_weights: Literal["none", "balanced"] = "none"


@dataclass(frozen=True)
class ResourcesConfig(Settings):
    """What one trial reserves on a Ray node. `gpu` is a fraction of one GPU; 0 where there is none.

    A trial that failed or whose node was lost is tried again `retries` times, from its last checkpoint, of which there
    is one every `checkpoint_seconds` at the end of an epoch.
    """

    cpu: Positive = 1.0
    gpu: Annotated[float, Range(ge=0)] | Literal["auto"] = "auto"
    retries: Annotated[int, Range(ge=0)] = 3
    checkpoint_seconds: Annotated[float, Range(ge=0)] = 60.0

    def __post_init__(self) -> None:
        if self.gpu != "auto" and self.gpu > 1 and not float(self.gpu).is_integer():  # Ray has nothing between
            raise ValueError(f"gpu 'auto', from 0 to 1, or a whole number, not {self.gpu:g}")


@dataclass(frozen=True)
class Profile(Settings):
    """Every setting of a manifest and a study."""

    name: str
    folds: Annotated[int, Range(ge=2)]
    training: TrainingConfig
    seed: Annotated[int, Range(ge=0, lt=2**32)] = 2020
    intake: IntakeConfig = field(default_factory=IntakeConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    resources: ResourcesConfig = field(default_factory=ResourcesConfig)

    def __post_init__(self) -> None:
        if self.model.input_size > self.intake.decoding.image_size:
            raise ValueError(
                f"model.input_size of at most intake.decoding.image_size, {self.intake.decoding.image_size}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, as stored in `study.json`."""
        return asdict(self)


def profile_names() -> list[str]:
    """Return the names of the profiles that come with the package."""
    return sorted(p.name[:-5] for p in _profile_folder().iterdir() if p.name.endswith(".toml"))


def load_profile(name_or_path: str, overrides: Mapping[str, Any] | None = None) -> Profile:
    """Read a profile by its name in the package or by the path of a TOML file.

    `overrides` maps dotted keys (`"model.input_size"`) to values that replace those of the file. Raises `ConfigError`
    for a file that is absent or not TOML, an unknown or missing key, or a value of another type or out of range.
    """
    from cxr_platform.validation import read_toml

    path = Path(name_or_path)
    if path.suffix != ".toml":
        if name_or_path not in profile_names():
            raise ConfigError(
                f"Expected a profile name ({', '.join(profile_names())}) or the path of a .toml file.",
                received=repr(name_or_path),
            )
        path = Path(str(_profile_folder() / f"{name_or_path}.toml"))
    tree = {"name": path.stem, **read_toml(path)}
    for key, value in (overrides or {}).items():
        *parents, leaf = key.split(".")
        table = tree
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise ConfigError(f"profile {path.name}: {parent}: expected a table.", received=repr(table))
        table[leaf] = value
    return parse_profile(tree, f"profile {path.name}")


def parse_profile(tree: Mapping[str, Any], where: str) -> Profile:
    """Return the profile in plain values, such as those of a TOML file or of study.json; `ConfigError` names the key."""
    from cxr_platform.validation import validate

    return validate(Profile, tree, where, advice="Correct the value; the profiles of the package show the form.")


def _profile_folder() -> Any:
    return resources.files("cxr_platform") / "profiles"


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield `key: before → now` for every leaf in which two trees of plain values differ."""
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}: {old} → {new}"
