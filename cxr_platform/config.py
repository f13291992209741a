"""Profiles: every setting of a study, frozen and typed, read from a TOML file in which an unknown key is an error.

Standard library only, because the training core imports this module on machines that have Keras and NumPy and no more.
"""

import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

from cxr_platform.errors import ConfigError
from cxr_platform.rules import broken_rules

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef,import-not-found]

Protocol = Literal["grouped", "paper"]
T = TypeVar("T")


@dataclass(frozen=True)
class DecodingConfig:
    """Limits of what is decoded at all, and how an image becomes `image_size` × `image_size` pixels (§2.1.4)."""

    image_size: int = 200  # pixels, both sides of the letterboxed image
    max_bytes: int = 64 * 2**20  # of the file
    max_pixels: int = 50_000_000  # of the image; the largest radiographs have some 20 million
    percentile_low: float = 0.5  # becomes black where the values of an image state no window of their own
    percentile_high: float = 99.5  # becomes white


@dataclass(frozen=True)
class QualityConfig:
    """What counts as a low-contrast, partial, lying or small image. The measures are defined in `intake/quality.py`."""

    min_contrast: float = 0.20  # of the whole range black to white, 5th to 95th percentile
    min_std: float = 0.06  # of the whole range
    max_aspect: float = 2.2  # children's images are complete up to about 2.1
    max_flat_fraction: float = 0.55  # the widest black borders round a complete thorax reach 0.50
    min_uprightness: float = -0.35  # images lying on their side are at -0.4 and below; upright ones down to -0.3
    min_side_pixels: int = 100  # half of the 200 pixels of the letterbox


@dataclass(frozen=True)
class SelectionConfig:
    """Which images of the public collections take part (§2.1.1 to §2.1.3)."""

    frontal_only: bool = True
    no_finding_is_normal: bool = True
    single_finding_only: bool = False
    caps: Literal["none", "paper"] = "none"
    limit: int | None = None
    duplicates: Literal["group", "drop"] = "group"
    near_duplicate_distance: int = 8  # bits of 64; every pair is then confirmed on its fine structure


@dataclass(frozen=True)
class IntakeConfig:
    """From files to images."""

    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)


@dataclass(frozen=True)
class ModelConfig:
    """MobileNetV2 and the paper's head (§2.3.1)."""

    input_size: int = 200
    alpha: float = 1.0
    dense_units: int = 2500
    dropout: float = 0.5
    batch_norm_momentum: float = 0.9


@dataclass(frozen=True)
class AugmentationConfig:
    """Rotation and shift (§2.1.4). `views` is the fixed number of augmented views of what is frozen."""

    rotation_degrees: float = 10.0
    shift_fraction: float = 0.1
    views: int = 4


@dataclass(frozen=True)
class ScheduleConfig:
    """How one family of strategies is trained: Adam, warm-up, cosine decay to zero."""

    epochs: int
    learning_rate: float
    weight_decay: float = 0.0


@dataclass(frozen=True)
class TrainingConfig:
    """What the paper does not state; the profile says why each value."""

    off_the_shelf: ScheduleConfig
    fine_tuning: ScheduleConfig
    scratch: ScheduleConfig
    batch_size: int = 32
    warmup_fraction: float = 0.1
    label_smoothing: float = 0.0
    class_weights: Literal["none", "balanced"] = "none"


@dataclass(frozen=True)
class ResourcesConfig:
    """What one trial reserves on a Ray node. `gpu` is a fraction of one GPU; 0 where there is none.

    A trial that failed or whose node was lost is tried again `retries` times, from its last checkpoint, of which there
    is one every `checkpoint_seconds` at the end of an epoch.
    """

    cpu: float = 1.0
    gpu: float | Literal["auto"] = "auto"
    retries: int = 3
    checkpoint_seconds: float = 60.0


@dataclass(frozen=True)
class Profile:
    """Every setting of a manifest and a study."""

    name: str
    folds: int
    training: TrainingConfig
    seed: int = 2020
    intake: IntakeConfig = field(default_factory=IntakeConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    resources: ResourcesConfig = field(default_factory=ResourcesConfig)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, as stored in `study.json`."""
        return asdict(self)


def profile_names() -> list[str]:
    """The profiles that come with the package."""
    return sorted(p.name[:-5] for p in _profile_folder().iterdir() if p.name.endswith(".toml"))


def load_profile(name_or_path: str, overrides: Mapping[str, Any] | None = None) -> Profile:
    """Read a profile by its name in the package or by the path of a TOML file.

    `overrides` maps dotted keys (`"model.input_size"`) to values that replace those of the file.
    Raises `ConfigError` for a file that is absent or no TOML, an unknown key, a missing key or a value of another type.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        if name_or_path not in profile_names():
            raise ConfigError(
                f"Expected a profile name ({', '.join(profile_names())}) or the path of a .toml file.",
                received=repr(name_or_path),
            )
        path = Path(str(_profile_folder() / f"{name_or_path}.toml"))
    tree = read_toml(path)
    tree.setdefault("name", path.stem)
    for key, value in (overrides or {}).items():
        _override(tree, key, value, f"profile {path.name}")
    profile = from_mapping(Profile, tree, f"profile {path.name}")
    _check_ranges(profile, path.name)
    return profile


def read_toml(path: Path) -> dict[str, Any]:
    """The tree of a TOML file; `ConfigError` names the file and the line when it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Expected a readable TOML file at {path}.", received=error.strerror) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"Expected TOML in {path}.", received=error) from error


def from_mapping(kind: type[T], tree: Mapping[str, Any], where: str) -> T:
    """Build the dataclass `kind` from plain values; `ConfigError` names the key, its place and what was expected."""
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{where}: expected a table.", received=repr(tree))
    hints = typing.get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for key in tree:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise ConfigError(
                f"{where}: expected one of the keys {', '.join(known)}.",
                received=repr(key),
                advice=f"Did you mean {near[0]!r}?" if near else "Remove it or correct it.",
            )
    values = {key: _convert(hints[key], value, f"{where}: {key}") for key, value in tree.items()}
    missing = [n for n, f in known.items() if n not in values and f.default is MISSING and f.default_factory is MISSING]
    if missing:
        raise ConfigError(f"{where}: missing {', '.join(missing)}.", advice="Add it; the profiles show the form.")
    return kind(**values)


def _override(tree: dict[str, Any], key: str, value: Any, where: str) -> None:
    *parents, leaf = key.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{where}: {parent}: expected a table.", received=repr(tree))
    tree[leaf] = value


def _convert(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint):
        return from_mapping(typing.cast(type, hint), value, where)
    origin = typing.get_origin(hint)
    options = typing.get_args(hint) if origin in (typing.Union, types.UnionType) else (hint,)
    for option in options:
        if typing.get_origin(option) is Literal:
            if value in typing.get_args(option):
                return value
        elif option is float and type(value) in (int, float):
            return float(value)
        elif type(value) is option:
            return value
    raise ConfigError(f"{where}: expected {_describe(options)}.", received=repr(value))


def _describe(options: tuple[Any, ...]) -> str:
    names = []
    for option in options:
        if typing.get_origin(option) is Literal:
            names += [repr(a) for a in typing.get_args(option)]
        else:
            names.append("nothing" if option is type(None) else option.__name__)
    return " or ".join(names)


def _check_ranges(profile: Profile, file: str) -> None:
    broken = broken_rules(profile)
    if broken:
        raise ConfigError(f"profile {file}: expected {'; '.join(broken)}.", advice="Correct the value in the profile.")


def _profile_folder() -> Any:
    return resources.files("cxr_platform") / "profiles"


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """`key: before → now` for every leaf in which two trees of plain values differ."""
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}: {old} → {new}"
