"""What the sections found, as far as the first lines of the report and the study card repeat it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cxr_platform.domain.interval import Interval

FEW_TRAINING_IMAGES = 50
OVERCONFIDENT = 1.05  # a temperature nearer to 1 moves a probability by a point at most
PROBE_INPUTS = {
    "metadata": "the facts of the file",
    "whole-image": "whole images",
    "without-lungs": "images without their lungs",
}


@dataclass(frozen=True)
class Comparison:
    """The winner against another strategy on the same images: difference of 7-class accuracy, in points.

    `p_value` is McNemar's exact one, `p_adjusted` after Holm's correction over all comparisons with the winner.
    """

    winner: str
    other: str
    difference: Interval
    p_value: float
    p_adjusted: float

    @property
    def significant(self) -> bool:
        """Whether interval and corrected test both say that it is more than chance."""
        return self.difference.excludes_zero and self.p_adjusted < 0.05


@dataclass(frozen=True)
class ProbeFinding:
    """One probe: 7-class accuracy, and Covid19 sensitivity and specificity, in percent with intervals.

    `control` is the same probe on the whole image (the study's winner for the metadata probe), `chance` the accuracy of
    always answering the most frequent class. `shortcut` says that the probe knows too much; `sentence` says what it
    means.
    """

    name: str
    title: str
    accuracy: Interval
    sensitivity: Interval
    specificity: Interval
    control: Interval
    chance: float
    shortcut: bool
    sentence: str


@dataclass(frozen=True)
class SourceFinding:
    """How often the source is told right from metadata or pixels, in percent, beside always answering the largest."""

    probe: str
    accuracy: Interval
    chance: float
    sources: int


@dataclass(frozen=True)
class Association:
    """Class × source: Cramér's V from 0 to 1 (`None` with one source), and classes with a single source."""

    cramers_v: float | None
    single_source: Mapping[str, str]
    sources: int


@dataclass(frozen=True)
class ExternalFinding:
    """A rate on the images of an external source beside the same rate in cross-validation, both in percent.

    `measure` is "sensitivity" or "specificity" of Covid19, or "recall" of `label`; `images` counts those of the rate.
    `contradicts` says that the two intervals do not overlap and that the external rate is the lower one. `training_images`
    are the images of the class from elsewhere that were left to learn from, where a source was left out.
    """

    source: str
    measure: str
    label: str
    strategy: str
    images: int
    wrong: int
    internal: Interval
    external: Interval
    contradicts: bool
    training_images: int | None = None

    @property
    def few_training_images(self) -> bool:
        """Whether so little was left to learn from that a low rate says more of that than of the source."""
        return self.training_images is not None and self.training_images < FEW_TRAINING_IMAGES


@dataclass(frozen=True)
class WithinSources:
    """Covid19 specificity, in percent, over the other `images` of those sources that have Covid19 too, beside that over
    images of the same classes from `elsewhere`. Within such a source its looks do not give Covid19 away.

    `falls` says that the two intervals do not overlap and that the first is the lower one.
    """

    images: int
    specificity: Interval
    elsewhere: Interval
    falls: bool


@dataclass(frozen=True)
class LungShare:
    """Share of the heatmaps inside the lung field over all explained images, in percent, beside the field's own share
    of the image, which a heatmap without preference would have."""

    strategy: str
    images: int
    share: Interval
    field_share: float
    low: bool


@dataclass(frozen=True)
class LeakageFinding:
    """Accuracy under the paper's protocol minus under grouped folds, in points, for the strategy that won here, and
    on average over the strategies that ran under both, where these are several."""

    strategy: str
    difference: Interval
    mean: Interval | None = None


@dataclass(frozen=True)
class CalibrationFinding:
    """Of the winner: temperature (mean over folds), expected calibration error before and after (0 to 1)."""

    strategy: str
    temperature: float
    ece_before: Interval
    ece_after: Interval


@dataclass(frozen=True)
class Findings:
    """All of them; `None` or empty where the section had nothing to work on."""

    accuracy: Interval
    sensitivity: Interval
    specificity: Interval
    comparisons: Sequence[Comparison]
    association: Association
    calibration: CalibrationFinding | None = None
    probes: Sequence[ProbeFinding] = ()
    source_probes: Sequence[SourceFinding] = ()
    external: Sequence[ExternalFinding] = ()
    left_out: Sequence[ExternalFinding] = ()
    within: WithinSources | None = None
    lungs: LungShare | None = None
    leakage: LeakageFinding | None = None
