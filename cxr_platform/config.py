"""Settings of a study: frozen dataclasses with a range for every number, read from a TOML file (a profile).

The dataclasses and their ranges need the standard library only, because the training core imports this module on
machines that have Keras and NumPy and no more. `load_profile` checks them with pydantic (`validation`).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from cxr_platform.errors import ConfigError

Protocol = Literal["grouped", "paper", "origins"]
Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]
"""Types of numbers in training: the names of Keras' policies."""


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
"""A fraction of a whole or a probability, both ends included."""
FractionBelowOne = Annotated[float, Range(ge=0, lt=1)]
Positive = Annotated[float, Range(gt=0)]
Count = Annotated[int, Range(ge=1)]

MIN_INPUT_SIZE = 32
"""Smallest side of a network's input: MobileNetV2 halves it five times."""


class Settings:
    """Base class of the tables of a profile: pydantic accepts no other keys, no other types, and no NaN."""

    __pydantic_config__: ClassVar[dict[str, bool | str]] = {
        "extra": "forbid",
        "strict": True,
        "allow_inf_nan": False,
        "use_attribute_docstrings": True,
    }


@dataclass(frozen=True)
class DecodingConfig(Settings):
    """Limits of decoding, and how grey values become pixels (§2.1.4)."""

    image_size: Annotated[int, Range(ge=32, le=1024)] = 200
    """Side of the letterboxed image in pixels."""
    max_bytes: Count = 64 * 2**20
    """Largest file that is read."""
    max_pixels: Count = 50_000_000
    """Largest image that is decoded; the largest radiographs have some 20 million pixels."""
    percentile_low: Annotated[float, Range(ge=0, lt=100)] = 0.5
    """Percentile of the grey values that becomes black, for an image without a window of its own."""
    percentile_high: Annotated[float, Range(gt=0, le=100)] = 99.5
    """Percentile that becomes white."""

    def __post_init__(self) -> None:
        if not self.percentile_low < self.percentile_high:
            raise ValueError(f"percentile_low below percentile_high, {self.percentile_high:g}")


@dataclass(frozen=True)
class QualityConfig(Settings):
    """Limits of image quality; `intake/quality.py` defines the measures."""

    max_colour: Fraction = 0.07
    """Strength of colours beyond a tint, and share of a third hue; photographs of radiographs reach 0.053."""
    min_contrast: Fraction = 0.20
    """Range from the 5th to the 95th percentile, as a fraction of black to white."""
    min_std: Fraction = 0.06
    """Standard deviation of the grey values, as a fraction of black to white."""
    max_aspect: Annotated[float, Range(ge=1)] = 2.2
    """Longer side over shorter side; complete images of children reach 2.1."""
    max_flat_fraction: Fraction = 0.55
    """Share of uniform areas; the widest borders around a complete thorax reach 0.50."""
    min_uprightness: Annotated[float, Range(ge=-2, le=2)] = -0.35
    """Images that lie on their side have -0.4 and below, upright ones -0.3 and above."""
    min_side_pixels: Count = 100
    """Shorter side of the file: half of the letterbox."""


@dataclass(frozen=True)
class SelectionConfig(Settings):
    """Which images of the public collections take part (§2.1.1 to §2.1.3)."""

    frontal_only: bool = True
    """Exclude other views than PA and AP."""
    no_finding_is_normal: bool = True
    """Count "no finding" as Normal."""
    classes: Literal["paper", "any"] = "paper"
    """Collections from which Normal and Pneumonia come: the paper's, or any that has them (NIH and Cohen too)."""
    contrast: Literal["none", "covid19", "all"] = "covid19"
    """Keep images whose finding is none of the seven classes, for tests: of sources that have Covid19, or of all."""
    single_finding_only: bool = False
    """Exclude images with findings beside the one of the seven classes."""
    caps: Literal["none", "paper"] = "none"
    """Limit each class to the paper's number of images, drawn at random."""
    limit: Count | None = None
    """Images per class at most, drawn at random."""
    duplicates: Literal["group", "drop"] = "group"
    """Keep exact duplicates in one fold, or exclude all but the first."""
    near_duplicate_distance: Annotated[int, Range(ge=0, le=16)] = 8
    """Bits of 64 in which perceptual hashes of candidate duplicates may differ; pixels then confirm each pair."""
    find_crops: bool = True
    """Also find crops and bordered, mirrored or inverted copies, by local features."""


@dataclass(frozen=True)
class IntakeConfig(Settings):
    """From files to images."""

    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)


@dataclass(frozen=True)
class ModelConfig(Settings):
    """MobileNetV2 and the paper's head (§2.3.1)."""

    input_size: Annotated[int, Range(ge=MIN_INPUT_SIZE)] = 200
    """Side of the network's input in pixels; at most `intake.decoding.image_size`."""
    alpha: Positive = 1.0
    """Width multiplier of MobileNetV2."""
    dense_units: Count = 2500
    """Units of the head's hidden layer."""
    dropout: FractionBelowOne = 0.5
    """Dropout rate of the head."""
    batch_norm_momentum: FractionBelowOne = 0.9
    """Momentum of the moving statistics; Keras' 0.999 needs thousands of steps."""


@dataclass(frozen=True)
class AugmentationConfig(Settings):
    """Random rotation and shift (§2.1.4)."""

    rotation_degrees: Annotated[float, Range(ge=0)] = 10.0
    """Largest rotation in either direction."""
    shift_fraction: Fraction = 0.1
    """Largest shift, as a fraction of the side."""
    views: Annotated[int, Range(ge=0)] = 4
    """Augmented views of each image whose frozen activations are computed once."""


@dataclass(frozen=True)
class ScheduleConfig(Settings):
    """Training of one family of strategies: Adam, linear warm-up, cosine decay to zero."""

    epochs: Count
    """Passes over the training images."""
    learning_rate: Positive
    """Rate at the end of the warm-up."""
    steps: Annotated[int, Range(ge=0)] = 0
    """Least number of steps: a small collection gets more passes than `epochs`."""
    weight_decay: Annotated[float, Range(ge=0)] = 0.0
    """Decoupled weight decay of kernels."""
    early_scale: FractionBelowOne = 0.0
    """Side of smaller images for the first epochs, relative to `model.input_size`; 0 for none. Only for scratch."""
    early_share: FractionBelowOne = 0.0
    """Share of the epochs with the smaller images."""

    def early_size(self, input_size: int) -> int:
        """Return the side of the smaller images in pixels, a multiple of 16, or 0 if there are none."""
        side = max(MIN_INPUT_SIZE, 16 * round(self.early_scale * input_size / 16))
        return side if self.early_scale and side < input_size else 0

    def early_epochs(self, epochs: int, input_size: int) -> int:
        """Return how many of `epochs` have the smaller images; the last has those of `input_size`."""
        return min(epochs - 1, round(epochs * self.early_share)) if self.early_size(input_size) else 0

    def full_size_epochs(self, epochs: int, input_size: int) -> float:
        """Return the epochs with images of `input_size` that take as long as `epochs`, by the number of pixels."""
        early = self.early_epochs(epochs, input_size)
        return epochs - early + early * (self.early_size(input_size) / input_size) ** 2

    def epochs_for(self, images: float, batch_size: int) -> int:
        """Return the passes over `images` training images: `epochs`, or as many as make up `steps`, if that is more."""
        steps_per_epoch = max(1, math.ceil(images / batch_size))
        return max(self.epochs, math.ceil(self.steps / steps_per_epoch))


@dataclass(frozen=True)
class TrainingConfig(Settings):
    """Settings that the paper does not state."""

    off_the_shelf: ScheduleConfig
    fine_tuning: ScheduleConfig
    scratch: ScheduleConfig
    batch_size: Annotated[int, Range(ge=2)] = 32
    """Images per step."""
    warmup_fraction: FractionBelowOne = 0.1
    """Share of all steps in which the learning rate rises."""
    label_smoothing: FractionBelowOne = 0.0
    """Probability mass that is spread over the other classes."""
    class_weights: Literal["none", "balanced"] = "none"
    """Weight the loss by inverse class frequency."""
    precision: Literal["auto"] | Precision = "auto"
    """Type of numbers: "auto" is bfloat16 on GPUs from Ampere on, float16 on Volta and Turing,
    float32 elsewhere."""

    def schedule(self, family: str) -> ScheduleConfig:
        """Return the schedule of a family of strategies (`Strategy.family`); raise `ConfigError` for one without."""
        if not hasattr(self, family):
            raise ConfigError("Expected a strategy that is trained in epochs.", received=family)
        schedule: ScheduleConfig = getattr(self, family)
        return schedule


View = Literal["whole", "lungs", "without-lungs"]
"""A way of showing an image to the frozen network; `intake/lung_views.py` defines them."""


@dataclass(frozen=True)
class RobustConfig(Settings):
    """What keeps a head on frozen features from resting on the origin of an image.

    The strategy `robust` uses it, and `cxr benchmark robust` compares its settings. The defaults are the plain head.
    """

    views: tuple[View, ...] = ("whole",)
    """Views of an image, each with a head of its own; their scores are averaged. `lungs` is a central box, equalised,
    and `without-lungs` all but the outline that the box surrounds."""
    against: Literal["all", "normal"] = "all"
    """Classes that the score of Covid19 is set against. A class of one origin is recognised by its origin; Normal has
    several."""
    margin: float = 0.0
    """Logits by which Covid19 has to exceed Normal, with `against = "normal"`."""
    balanced: Literal["none", "class", "class-origin"] = "none"
    """Weight images so that classes count alike, or also the origins within each class."""
    contrast: bool = False
    """Train on contrast images too, as any class but Covid19."""
    appearance: Literal["none", "mixed"] = "none"
    """Also train on lungs whose sharpness is mixed with that of other images that are trained on, of any origin, with
    painted markers and borders. For the view `lungs`, and in `cxr benchmark robust` alone."""
    origin_penalty: Annotated[float, Range(ge=0)] = 0.0
    """Penalty on differences between the mean scores of one class at several origins."""
    coral: Annotated[float, Range(ge=0)] = 0.0
    """Penalty on differences between the covariances of the origins."""
    group_dro: bool = False
    """Weight each class at each origin by its loss."""
    last_layer: Literal["all", "balanced", "within"] = "all"
    """Fit to all images, to subsets with equally many of each class at each origin (DFR), or to origins with both
    Covid19 and other images."""
    gate: bool = False
    """Score Covid19 by the lower of two heads: that of all images, and one of origins that have both sides. Where the
    first names Covid19 and that score would name another class, the answer is indeterminate."""
    shrinkage: Positive = 0.1
    """Quadratic penalty of the weights of standardised features."""

    def __post_init__(self) -> None:
        if not self.views or len(set(self.views)) < len(self.views):
            raise ValueError("views with one view or more, each once")
        if self.margin and self.against != "normal":
            raise ValueError('margin 0, or against = "normal", for which alone there is a margin')
        if self.appearance == "mixed" and "lungs" not in self.views:
            raise ValueError('appearance "none", or "lungs" among the views, which alone are mixed')
        if self.last_layer == "balanced" and (self.group_dro or self.balanced != "none"):
            raise ValueError('last_layer "all", or no group_dro and balanced "none": its subsets have equal weights')
        if self.last_layer == "within" and self.gate:
            raise ValueError('last_layer "all" with gate, whose second head is the one "within" origins')


Storage = Literal["memory", "files", "recompute"]
"""Where frozen activations are kept (`ResourcesConfig.activations`)."""


@dataclass(frozen=True)
class ResourcesConfig(Settings):
    """What one trial reserves on a Ray node, and how it is retried."""

    cpu: Positive = 1.0
    """Processors."""
    gpu: Annotated[float, Range(ge=0)] | Literal["auto"] = "auto"
    """Fraction of one GPU, or whole GPUs; "auto" shares GPUs by memory. 0 for none."""
    mps: bool = False
    """Share GPUs of this machine through NVIDIA's Multi-Process Service, started for the study. On a Ray cluster,
    start it on the nodes instead."""
    retries: Annotated[int, Range(ge=0)] = 3
    """Times a failed or lost trial is tried again, from its last checkpoint."""
    deterministic: bool | Literal["auto"] = "auto"
    """The same result every time on the same hardware, at the price of speed; "auto" is true on a processor and false
    on a GPU."""
    checkpoint_seconds: Annotated[float, Range(ge=0)] = 60.0
    """Least time between two checkpoints, which are written at the end of an epoch."""

    activations: Literal["auto"] | Storage = "auto"
    """Where frozen activations are kept: in the memory of the nodes, in files of the study's storage from which trials
    read batches, or nowhere: every step then computes them from images. "auto" is memory where they fit, else files
    or, if trials have a GPU and rates that are measured say that it is faster, "recompute"."""
    cache_gib: Positive | None = None
    """GiB of each node's disk for images of large studies and for copies of files of an object store (in CXR_CACHE);
    by default what CXR_CACHE_GIB of the node says, else half of what would be free without them."""

    def __post_init__(self) -> None:
        if self.gpu != "auto" and self.gpu > 1 and not float(self.gpu).is_integer():  # Ray has nothing between
            raise ValueError(f"gpu 'auto', from 0 to 1, or a whole number, not {self.gpu:g}")


@dataclass(frozen=True)
class Profile(Settings):
    """Every setting of a manifest and a study."""

    name: str
    """Name in reports; the file's name if absent."""
    folds: Annotated[int, Range(ge=2)]
    """Parts of the cross-validation."""
    training: TrainingConfig
    seed: Annotated[int, Range(ge=0, lt=2**32)] = 2020
    """Seed of every random number."""
    intake: IntakeConfig = field(default_factory=IntakeConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    resources: ResourcesConfig = field(default_factory=ResourcesConfig)
    robust: RobustConfig = field(default_factory=RobustConfig)

    def __post_init__(self) -> None:
        size = self.intake.decoding.image_size
        if self.model.input_size > size:
            raise ValueError(f"model.input_size of at most intake.decoding.image_size, {size}")
        for family in ("off_the_shelf", "fine_tuning"):
            if self.training.schedule(family).early_scale:
                raise ValueError(f"training.{family}.early_scale 0: activations of frozen layers have one size")

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
    profile = parse_profile(tree, f"profile {path.name}")
    scratch = profile.training.scratch
    if bool(scratch.early_scale) != bool(scratch.early_share):  # not where a study is read, in which it had no effect
        raise ConfigError(
            f"profile {path.name}: training.scratch: expected early_scale and early_share both above 0, or neither.",
            received=f"{scratch.early_scale:g} and {scratch.early_share:g}",
        )
    return profile


def parse_profile(tree: Mapping[str, Any], where: str) -> Profile:
    """Return the profile in plain values, as in a TOML file or in study.json; `ConfigError` names the key."""
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
