"""What the paper's protocol does to the figures: the same images under both ways of making folds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.strategies import TITLES
from cxr_platform.domain.study import StudyRecord
from cxr_platform.evaluation.findings import LeakageFinding
from cxr_platform.evaluation.formatting import count, joined, rate, text
from cxr_platform.evaluation.metrics import MEASURES
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.statistics.bootstrap import study_bootstrap
from cxr_platform.evaluation.statistics.leakage import Leakage, leakage, mean_difference, split_group_images
from cxr_platform.evaluation.table import Row, Table

NAME, TITLE = "leakage", "What images of one patient in several folds do"
ABSENT = "Only the protocol “{}” was run on these images. make cv-all PROTOCOL=both runs both and shows the difference."
NOTHING_SHARED = "The two studies have no strategy in common."
SHOWN = ("accuracy_7_class", "sensitivity", "specificity")
NOTE = (
    "In percent, each image counted once; differences in points, paper less grouped, with the 95 % interval by paired "
    "bootstrap over patients."
)
NOT_COVERED = (
    "Each protocol trained networks of its own, once. The interval covers the choice of patients, not that training "
    "again gives another network, so that small differences may be nothing but that."
)


@dataclass(frozen=True)
class Found:
    """`strategies` best first, `mean` the difference over all of them by measure.

    `torn` images have, under the paper's protocol, an image of their group in another fold.
    """

    strategies: tuple[Leakage, ...]
    mean: Mapping[str, Interval]
    torn: int
    images: int
    winner: str

    @property
    def finding(self) -> LeakageFinding | None:
        """That of the winner; `None` where the other study did not run it."""
        ours = next((found for found in self.strategies if found.strategy == self.winner), None)
        if ours is None:
            return None
        return LeakageFinding(ours.strategy, ours.difference["accuracy_7_class"], self.mean_accuracy)

    @property
    def mean_accuracy(self) -> Interval | None:
        """The mean over strategies, where there are several."""
        return self.mean["accuracy_7_class"] if len(self.strategies) > 1 else None


def find(inputs: ReportInputs) -> Found | None:
    """Paper less grouped for every strategy that both studies ran; `None` where only one protocol was run."""
    if inputs.other is None:
        return None
    both = {inputs.study.protocol: inputs.predictions, inputs.other[0].protocol: inputs.other[1]}
    bootstrap = study_bootstrap(inputs.study, both["grouped"])
    by_name = {found.strategy: found for found in leakage(both["paper"], both["grouped"], bootstrap)}
    mean = mean_difference(both["paper"], both["grouped"], bootstrap)
    ranked = tuple(by_name[r.strategy] for r in inputs.results.ranking if r.strategy in by_name)
    images = len(inputs.predictions.image_id)
    return Found(ranked, mean, split_group_images(both["paper"]), images, inputs.results.decision.winner)


def section(inputs: ReportInputs, found: Found | None) -> Section:
    """The difference for every strategy, and what it means for the winner."""
    if found is None or inputs.other is None:
        return Section(NAME, TITLE, absent=ABSENT.format(inputs.study.protocol))
    if not found.strategies:
        return Section(NAME, TITLE, absent=NOTHING_SHARED)
    return Section(
        NAME,
        TITLE,
        lead=tuple(filter(None, (_torn(found), _meaning(found), _on_average(found), NOT_COVERED))),
        tables=(_table(found, inputs.synthetic),),
        warnings=_unlike(inputs.study, inputs.other[0]),
        values={
            "torn_images": found.torn,
            "mean_difference": {measure: asdict(interval) for measure, interval in found.mean.items()},
            "strategies": {f.strategy: asdict(f) for f in found.strategies},
        },
    )


def _torn(found: Found) -> str:
    return (
        "The paper's protocol shuffles images into folds one by one: "
        f"{count(found.torn, 'image', 'images')} of {found.images:,} then met a network that had learnt from another image "
        "of the same patient, a duplicate or near-duplicate. The grouped protocol keeps these together."
    )


def _meaning(found: Found) -> str:
    first = found.strategies[0]
    gap, shown = first.difference["accuracy_7_class"], TITLES[first.strategy]
    start = (
        f"{shown} has {rate(first.paper['accuracy_7_class'])} 7-class accuracy under the paper's protocol and "
        f"{rate(first.grouped['accuracy_7_class'])} under the grouped one: a difference of {text(gap)} points."
    )
    if not gap.excludes_zero or gap.value is None:
        return f"{start} That is no more than chance explains: by itself it shows no leakage, and rules none out."
    if gap.value < 0:
        return f"{start} The paper's protocol is the lower one, which leakage cannot explain."
    if not found.torn:
        return f"{start} No image met another of its patient, so that leakage cannot explain it."
    return f"{start} Images of one patient on both sides of a fold are the likely reason: the higher one is too high."


def _on_average(found: Found) -> str:
    gap = found.mean_accuracy
    if gap is None or gap.value is None:
        return ""
    start = f"On average over the {len(found.strategies)} strategies the difference is {text(gap)} points"
    if not gap.excludes_zero:
        return f"{start}: no more than chance explains."
    if gap.value > 0 and found.torn:
        return (
            f"{start}, for which images of one patient on both sides of a fold are the likely reason. A winner was "
            "chosen for its figure in these folds, which hides some of that in its own difference."
        )
    return f"{start}, which leakage cannot explain."


def _table(found: Found, synthetic: bool) -> Table:
    rows = [row for strategy in found.strategies for row in _rows(strategy)]
    if found.mean_accuracy is not None:
        rows.append(Row(("Mean over strategies", "difference (points)"), tuple(found.mean[m] for m in SHOWN), "total"))
    columns = tuple(f"{MEASURES[measure]} (%)" for measure in SHOWN)
    title = "The paper's protocol and grouped folds on the same images"
    return Table("leakage", title, ("Strategy", "Protocol"), columns, tuple(rows), NOTE, synthetic)


def _rows(found: Leakage) -> list[Row]:
    shown = TITLES[found.strategy]
    kinds: list[tuple[str, Mapping[str, Interval], str]] = [
        ("paper", found.paper, ""),
        ("grouped", found.grouped, ""),
        ("difference (points)", found.difference, "difference"),
    ]
    return [Row((shown, name), tuple(values[m] for m in SHOWN), kind) for name, values, kind in kinds]


def _unlike(ours: StudyRecord, other: StudyRecord) -> tuple[str, ...]:
    """A warning where the two studies differ in more than their protocol."""
    unlike = sorted(name for name, value in vars(ours.profile).items() if value != getattr(other.profile, name))
    unlike += ["folds"] if ours.folds != other.folds and "folds" not in unlike else []
    if not unlike:
        return ()
    return (f"The two studies differ in more than the protocol ({joined(unlike)}): the difference has that in it too.",)
