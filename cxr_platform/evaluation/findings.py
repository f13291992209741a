"""Results of the sections that the summary and the study card repeat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cxr_platform.domain.interval import Interval
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

FEW_TRAINING_IMAGES = 50
FAR = 10  # points of accuracy whose loss at other hospitals leaves a claim without support
SMALL = 20  # images or patients of a figure; with fewer, one of them changes it by more than five points
UNDERTRAINED = 0.05  # mean fall of the training loss from the third to the last quarter of the epochs
OVERCONFIDENT = 1.05  # temperature; one closer to 1 changes a probability by at most a point
PROBE_INPUTS = {
    "metadata": "file metadata",
    "whole-image": "whole images",
    "without-lungs": "images without their lungs",
}
"""Probe of the source → what it sees, for a sentence."""


@dataclass(frozen=True)
class StrategyComparison:
    """The winner minus another strategy on the same images: difference of 7-class accuracy, in points.

    The interval allows for the winner's having been picked: it holds for all pairs of strategies at once. `p_value` is
    of the sign test over groups, `p_adjusted` after Holm's correction over all `pairs` of strategies.
    """

    winner: str
    other: str
    difference: Interval
    p_value: float
    p_adjusted: float
    pairs: int

    @property
    def significant(self) -> bool:
        """True if both the interval excludes 0 and the corrected p value is below 0.05."""
        return self.difference.excludes_zero and self.p_adjusted < 0.05


@dataclass(frozen=True)
class PickedAccuracy:
    """7-class accuracy, in percent, of the best of `strategies`, which was picked on the images that it is measured on.

    `optimism` is by how many points picking made it too high.
    """

    measured: Interval
    optimism: float
    strategies: int

    @property
    def corrected(self) -> Interval:
        """The accuracy to expect on other images of the same sources: value and bounds lowered by the optimism."""
        bounds = (self.measured.value, self.measured.low, self.measured.high)
        value, low, high = (None if bound is None else max(0.0, bound - self.optimism) for bound in bounds)
        return Interval(value, low, high)


@dataclass(frozen=True)
class ProbeFinding:
    """One probe: 7-class accuracy, and Covid19 sensitivity and specificity, in percent.

    `control` is the accuracy of the same probe on the whole image (of the study's winner for the metadata probe),
    `chance` that of always predicting the most frequent class. `shortcut` is the result of `sections.shortcuts.RULE`,
    `sentence` its explanation.
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
    """Accuracy, in percent, of predicting the source, and `chance`: always predicting the largest source."""

    probe: str
    accuracy: Interval
    chance: float
    sources: int


@dataclass(frozen=True)
class Association:
    """Class × source: Cramér's V from 0 to 1 (`None` with one source), and the classes with a single source."""

    cramers_v: float | None
    single_source: Mapping[str, str]
    sources: int


@dataclass(frozen=True)
class ExternalFinding:
    """A rate on the images of an external or left-out source and the same rate in cross-validation, in percent.

    `measure` is "sensitivity" or "specificity" of Covid19, or "recall" of `label`; `images` and `wrong` count the
    images of the rate. `contradicts` is true if the external rate is lower and the intervals do not overlap.
    `training_images` is the number of training images of the class from other sources, if a source was left out.
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
        """True if so few training images were left that they explain a low rate."""
        return self.training_images is not None and self.training_images < FEW_TRAINING_IMAGES


@dataclass(frozen=True)
class OutsideFinding:
    """How often images of a source, whose `finding` is none of the seven classes, are called each class, in percent.

    `whole` is true for all images of the source; `finding` is then empty if they have several. `called` counts those
    that are called Covid19. `shares` is in the order of `CLASSES`. `internal` is the same share in cross-validation, of
    the images without Covid19. `higher` is true if the share of Covid19 is higher and the intervals do not overlap.
    """

    source: str
    finding: str
    whole: bool
    strategy: str
    images: int
    groups: int
    called: int
    shares: Sequence[Interval]
    internal: Interval
    higher: bool

    @property
    def share(self) -> Interval:
        """Share of the images that are called Covid19."""
        return self.shares[CLASSES.index(POSITIVE_CLASS)]

    @property
    def small(self) -> bool:
        """True if there are too few patients for a conclusion."""
        return self.groups < SMALL


@dataclass(frozen=True)
class ClassAnswers:
    """How often images of `label` of an external source are called each class, in percent, in the order of `CLASSES`.

    `internal` has the same shares of the images of that class in cross-validation.
    """

    source: str
    label: str
    strategy: str
    images: int
    groups: int
    shares: Sequence[Interval]
    internal: Sequence[Interval]

    @property
    def small(self) -> bool:
        """True if there are too few patients for a conclusion."""
        return self.groups < SMALL


@dataclass(frozen=True)
class WithinSources:
    """A class among the other images of those of its `sources` that have any, contrast images included.

    `images` of the class and `others`, `contrast` of them without a class; `groups` of patients on the side with fewer.
    `auc` (0 to 1) compares images of one source only, `specificity` is in percent.

    `compared` of the others are of classes that origins without the class have too. `auc_compared` and
    `specificity_compared` are over these, `auc_elsewhere` and `specificity_elsewhere` over the images of those origins
    in the same mix of classes. `falls` is true if a figure is lower within and the intervals do not overlap.
    """

    label: str
    sources: tuple[str, ...]
    images: int
    others: int
    contrast: int
    groups: int
    auc: Interval
    specificity: Interval
    compared: int
    auc_compared: Interval
    specificity_compared: Interval
    auc_elsewhere: Interval
    specificity_elsewhere: Interval
    falls: bool

    @property
    def small(self) -> bool:
        """True if there are too few patients on one side for a conclusion."""
        return self.groups < SMALL

    @property
    def shown(self) -> bool:
        """True if the class is recognised within its sources: the interval of the AUC is above 0.5."""
        low = self.auc.value if self.auc.low is None else self.auc.low
        return low is not None and low > 0.5


@dataclass(frozen=True, kw_only=True)
class RankedPair:
    """AUC (0 to 1) of Covid19 `images` of the origin `positive` against `others`, without Covid19, of `negative`.

    It is of the probabilities of `strategy`. `groups` of patients are on the side with fewer. `p_reversed` is the p
    value of an AUC below 0.5, after Holm's correction over all pairs.
    """

    positive: str
    negative: str
    images: int
    others: int
    groups: int
    auc: Interval
    p_reversed: float = 1.0
    strategy: str = ""

    @property
    def small(self) -> bool:
        """True if there are too few patients on one side for a conclusion."""
        return self.groups < SMALL

    @property
    def reversed(self) -> bool:
        """True if the AUC is significantly below 0.5, chance: other images are ranked higher than Covid19."""
        return self.p_reversed < 0.05 and not self.small


@dataclass(frozen=True, kw_only=True)
class HospitalPair(RankedPair):
    """A pair by classifiers that were trained without the origin `left_out`, which is one of the two or both.

    They are simple ones on whole images if `strategy` is empty.
    """

    left_out: str


@dataclass(frozen=True, kw_only=True)
class ExternalPair(RankedPair):
    """A pair of which neither side was trained on: `finding` is the class, or the other finding, of the `others`.

    `studied` is True if the study was trained on other images of one of the two origins.
    """

    finding: str
    studied: bool

    @property
    def within(self) -> bool:
        """True if both sides are of one origin."""
        return self.positive == self.negative


@dataclass(frozen=True)
class UnseenImages:
    """The winner's 7-class `accuracy`, in percent, on `images` of hospitals that were left out of its training.

    `change` in points is to the same images in the study's own folds. `mean_auc` is that of Covid19 of each hospital
    against the other images of each.
    """

    images: int
    accuracy: Interval
    change: Interval
    mean_auc: Interval

    @property
    def falls(self) -> bool:
        """True if the accuracy is significantly lower there."""
        return self.change.high is not None and self.change.high < 0

    @property
    def falls_far(self) -> bool:
        """True if it is lower by more than `FAR` points, interval included."""
        return self.change.high is not None and self.change.high < -FAR


@dataclass(frozen=True)
class LungShare:
    """Share of the heatmaps inside the lungs, in percent, over all explained images.

    `field_share` is the lungs' share of the image, which a uniform heatmap would have.
    """

    strategy: str
    images: int
    share: Interval
    field_share: float
    low: bool


@dataclass(frozen=True)
class LeakageFinding:
    """Accuracy under the paper's protocol minus under grouped folds, in points, for the winner of this study.

    `mean` is the average over the strategies that ran under both protocols, if there are several.
    """

    strategy: str
    difference: Interval
    mean: Interval | None = None


@dataclass(frozen=True)
class CalibrationFinding:
    """Calibration of the winner: mean temperature over folds, expected calibration error before and after (0 to 1)."""

    strategy: str
    temperature: float
    ece_before: Interval
    ece_after: Interval

    @property
    def overconfident(self) -> bool:
        """True if the probabilities are too extreme."""
        return self.temperature > OVERCONFIDENT


@dataclass(frozen=True)
class Findings:
    """All findings; `None` or empty if the section had no input.

    `accuracy` is as measured, `picked` has it corrected for the winner's having been picked.
    """

    accuracy: Interval
    sensitivity: Interval
    specificity: Interval
    comparisons: Sequence[StrategyComparison]
    association: Association
    picked: PickedAccuracy | None = None
    calibration: CalibrationFinding | None = None
    probes: Sequence[ProbeFinding] = ()
    source_probes: Sequence[SourceFinding] = ()
    external: Sequence[ExternalFinding] = ()
    outside: Sequence[OutsideFinding] = ()
    left_out: Sequence[ExternalFinding] = ()
    within: WithinSources | None = None
    hospitals: Sequence[HospitalPair] = ()
    unseen: UnseenImages | None = None
    lungs: LungShare | None = None
    leakage: LeakageFinding | None = None
    undertrained: Sequence[str] = ()
    """Strategies whose training loss still fell by more than `UNDERTRAINED` at the end."""

    @property
    def expected_accuracy(self) -> Interval:
        """The winner's 7-class accuracy to expect on other images of the same sources."""
        return self.accuracy if self.picked is None else self.picked.corrected
