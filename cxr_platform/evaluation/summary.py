"""The summary on the first page of the report: five lines, warnings, and what the results do not show."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.strategies import PAPER_WINNER, STRATEGY_NAMES, TITLES
from cxr_platform.evaluation.credibility import NOT_SUPPORTED, Credibility, assess_credibility
from cxr_platform.evaluation.finding_clauses import confounding_warning
from cxr_platform.evaluation.findings import UNDERTRAINED, Findings, StrategyComparison
from cxr_platform.evaluation.formatting import NBSP, joined, p_text, percent, rate, text
from cxr_platform.evaluation.paper import paper_metrics, paper_tables
from cxr_platform.evaluation.study_results import RULE, StudyResults
from cxr_platform.labels import CLASSES, PAPER_COUNTS, POSITIVE_CLASS

COMPARED, BEST, MARGIN = "What was compared", "Best strategy", "Margin"
CREDIBILITY, NEXT_STEPS = "Credibility", "Next steps"
"""Titles of the five lines."""
PROTOCOL_MEANING: Mapping[str, str] = {
    "grouped": "images of one known patient, duplicates and near-duplicates stay in one fold",
    "paper": "images are shuffled into folds one by one, as in the paper",
}
PAPER_PIXELS = 200  # §2.1.4
PAPER_FOLDS = 10
SHOWN_STEPS = 3
NUMBERS = {2: "two", 3: "three"}
INTERVALS = (
    "The 95 % intervals cover the choice of patients from the same sources. They do not cover the variation between "
    "training runs, or the images of other hospitals."
)
SHOWN_SOURCES = 6
LEAKAGE = "Images of one patient may be in several folds, which makes the results too high."


@dataclass(frozen=True)
class SummaryLine:
    """One of the five lines: `short` for ten seconds of reading, `rest` for a minute; `alarm` if it is a warning."""

    title: str
    short: str
    rest: str
    alarm: bool = False

    @property
    def text(self) -> str:
        """Both parts."""
        return f"{self.short} {self.rest}".rstrip()


@dataclass(frozen=True)
class Summary:
    """Text for the reader, commands in backticks; `winner_line` fits on a terminal."""

    headline: str
    winner_line: str
    lines: tuple[SummaryLine, ...]
    warnings: tuple[str, ...]
    limits: tuple[str, ...]


def summarize(results: StudyResults, findings: Findings) -> Summary:
    """Put the numbers of `results` and `findings` into words; compute no new ones."""
    credibility = assess_credibility(results, findings)
    first, *others = next_steps(results, findings, credibility)[:SHOWN_STEPS]
    lines = (
        SummaryLine(COMPARED, *_compared(results)),
        SummaryLine(BEST, *_best(results, findings)),
        SummaryLine(MARGIN, *_margin(results, findings)),
        SummaryLine(CREDIBILITY, f"{credibility.verdict}:", credibility.explanation, credibility.alarm),
        SummaryLine(NEXT_STEPS, f"{_capitalized(first)}.", f"Then {'; then '.join(others)}." if others else ""),
    )
    warning = confounding_warning(findings.association)
    return Summary(
        _headline(results, findings, credibility),
        winner_line(results),
        lines,
        (warning,) if warning else (),
        (
            *(f"{_capitalized(reason.text)}." for reason in credibility.further),
            *_undertrained(findings),
            INTERVALS,
            *_unknown_patients(results),
            *_leakage(results, findings),
            *_calibration(findings),
            _beside_paper(results),
            *_unlike_paper(results),
        ),
    )


def winner_line(results: StudyResults) -> str:
    """Return the winner by the paper's rule, for a terminal."""
    decision, best = results.decision, results.best
    line = f"Winner by the paper's rule: {best.strategy}, 7-class accuracy {text(best.mean.accuracy_7_class)} %"
    if decision.runner_up is None:
        return f"{line} (the only strategy run)."
    if decision.decided_by == "nothing":
        return f"{line}, tied with {joined(decision.tied)}."
    if decision.decided_by == "specificity":
        return f"{line}, tied with {decision.runner_up}, with the higher specificity."
    return f"{line}, {text(decision.margin_points)} points ahead of {decision.runner_up}."


def next_steps(results: StudyResults, findings: Findings, credibility: Credibility) -> list[str]:
    """Return steps as clauses, the most urgent first, commands in backticks; never empty."""
    return [*_steps(results, findings, credibility), "review the failures and the heatmaps with a radiologist"]


def _steps(results: StudyResults, findings: Findings, credibility: Credibility) -> Iterator[str]:
    study, association = results.study, findings.association
    data = "" if study.manifest.synthetic else "DATA=FOLDER "
    if study.manifest.synthetic:
        yield "repeat the study on real images: `make cv-all DATA=FOLDER`"
    if association.sources > 1 and association.single_source:
        classes = joined(list(association.single_source))
        yield f"add images of {classes} from a second source and repeat the study: `make cv-all DATA=FOLDER`"
    elif any(finding.contradicts for finding in (*findings.external, *findings.left_out)):
        yield "train on images of more sources: `make cv-all DATA=FOLDER`"
    if not findings.probes:
        yield f"compute the shortcut probes: `cxr report --study runs/{study.name} --manifest FOLDER`"
    elif credibility.alarm:
        yield "report no accuracy without the probes beside it"
    if not findings.external:
        yield f"evaluate external images: `cxr evaluate --study runs/{study.name} --data FOLDER`"
    if findings.leakage is None:
        yield f"measure the effect of leakage: `make cv-all {data}PROTOCOL=both`"
    if study.folds < PAPER_FOLDS:
        significant = all(comparison.significant for comparison in findings.comparisons)
        reason = (
            "repeat it as in the paper" if significant else "separate the strategies with ten folds and larger images"
        )
        yield f"{reason}: `make cv-all {data}PROFILE=paper`"


def _headline(results: StudyResults, findings: Findings, credibility: Credibility) -> str:
    decision, winner = results.decision, TITLES[results.decision.winner]
    accuracy = f"{percent(findings.expected_accuracy.value)} 7-class accuracy"
    if _corrected(findings):
        accuracy += f" ({percent(findings.accuracy.value)} before correction for the choice of the best)"
    doubt = ", not supported by the tests below" if credibility.verdict == NOT_SUPPORTED else ""
    if decision.runner_up is None:
        return f"{winner}: {accuracy}{doubt}"
    if decision.decided_by == "nothing":
        return f"{joined([winner, *_titles(decision.tied)])} share the first place, with {accuracy}{doubt}"
    return f"First of {len(results.strategies)} strategies: {winner.lower()}, with {accuracy}{doubt}"


def _compared(results: StudyResults) -> tuple[str, str]:
    study = results.study
    ran = [name for name in results.strategies if name in STRATEGY_NAMES]
    which = "All" if not study.not_run else "One" if len(ran) == 1 else str(len(ran)) if ran else "None"
    others = _titles([name for name in results.strategies if name not in STRATEGY_NAMES])
    own = f", and {joined(others)}, which the paper does not have" if others else ""
    present = sum(bool(results.counts[label]) for label in CLASSES)
    classes = "seven classes" if present == len(CLASSES) else f"{present} of the seven classes"
    return (
        f"{which} of the paper's eight training strategies for MobileNetV2{own}, on {results.images:,} images of "
        f"{classes} in {study.folds} folds.",
        "Each image was predicted by a network trained without its fold; protocol "
        f"“{study.protocol}”: {PROTOCOL_MEANING[study.protocol]}. {known_patients(results)}",
    )


def known_patients(results: StudyResults) -> str:
    """Return for how many images the patient is known, in all and by source: only those patients stay together."""
    total = results.all_known_patients
    if total.known == total.images:
        return f"The patient is known for all {total.images:,} images."
    if not total.known:
        sentence = f"The patient is known for none of the {total.images:,} images"
    else:
        parts = [f"{name} {p.known:,} of {p.images:,}" for name, p in results.known_patients.items()]
        more = f" and {len(parts) - SHOWN_SOURCES} more sources" if len(parts) > SHOWN_SOURCES else ""
        by_source = f": {', '.join(parts[:SHOWN_SOURCES])}{more}" if len(parts) > 1 else ""
        share = f"{total.known:,} of {total.images:,} images ({percent(total.share)})"
        sentence = f"The patient is known for {share}{by_source}"
    if results.study.protocol == "paper":
        return f"{sentence}."
    return f"{sentence}; of the others, only duplicates and near-duplicates are kept together."


def _corrected(findings: Findings) -> bool:
    """Return True if the correction for the choice of the best changes the printed accuracy."""
    return percent(findings.expected_accuracy.value) != percent(findings.accuracy.value)


def _best(results: StudyResults, findings: Findings) -> tuple[str, str]:
    measured = ""
    if findings.picked is not None and _corrected(findings):
        measured = (
            f"Measured: {rate(findings.accuracy)}, of which {text(findings.picked.optimism)} points come from its "
            f"being the best of {findings.picked.strategies} on these images. "
        )
    return (
        f"{TITLES[results.best.strategy]}: 7-class accuracy {rate(findings.expected_accuracy)}.",
        f"{measured}Always predicting the most frequent class would reach {percent(results.majority_accuracy)}. "
        f"{POSITIVE_CLASS} against the rest: sensitivity {rate(findings.sensitivity)}, specificity "
        f"{rate(findings.specificity)}.",
    )


def _margin(results: StudyResults, findings: Findings) -> tuple[str, str]:
    decision = results.decision
    if decision.runner_up is None:
        return "No other strategy was run.", ""
    if decision.decided_by == "nothing":
        number = NUMBERS.get(len(decision.tied) + 1, str(len(decision.tied) + 1))
        return (
            f"Tied with {joined(_titles(decision.tied))}.",
            f"Their specificity is the same too: the rule, {RULE}, does not separate the {number}.",
        )
    second = f"{TITLES[decision.runner_up].lower()}, the second"
    if decision.decided_by == "specificity":
        second += " (the higher specificity decides)"
    comparisons = {comparison.other: comparison for comparison in findings.comparisons}
    if decision.runner_up not in comparisons:
        return f"{_points(decision.margin_points)} {second}.", "No test was computed."
    tested = comparisons.pop(decision.runner_up)
    verdict = "a significant difference" if tested.significant else "not significantly different"
    level = _titles(c.other for c in comparisons.values() if not c.significant)
    others = f" Not significantly different either: {joined(level)}." if level else ""
    return (
        f"{_points(tested.difference.value)} {second}: {verdict}.",
        f"{_test(tested)}{others}",
    )


def _test(tested: StrategyComparison) -> str:
    corrected = f", corrected for all {tested.pairs} pairs of strategies" if tested.pairs > 1 else ""
    test = f"sign test over patients{corrected}: {p_text(tested.p_adjusted)}"
    if tested.difference.low is None:
        return f"S{test[1:]}."
    return f"95{NBSP}% interval of the difference {_bounds(tested.difference)}; {test}."


def _bounds(difference: Interval) -> str:
    low, high = (text(bound, signed=True) for bound in (difference.low, difference.high))
    return f"{low} to {high}"


def _points(value: float | None) -> str:
    if value is None:
        return "An undefined difference to"
    if round(value, 2) == 0:
        return "Tied with"
    return f"{text(abs(value))} points of 7-class accuracy {'more' if value > 0 else 'less'} than"


def _titles(strategies: Iterable[str]) -> list[str]:
    return [TITLES[strategy].lower() for strategy in strategies]


def _unknown_patients(results: StudyResults) -> Sequence[str]:
    total = results.all_known_patients
    if results.study.protocol == "paper" or total.known == total.images:
        return []
    return [
        f"For {percent(100 - total.share)} of the images the patient is not known: images of one patient among them "
        "may be in several folds, which makes the results too high and the intervals too narrow."
    ]


def _leakage(results: StudyResults, findings: Findings) -> Sequence[str]:
    if results.study.protocol == "paper":
        return [LEAKAGE]
    leakage = findings.leakage
    if leakage is None:
        return []
    subject, gap = "the same strategy reaches", leakage.difference
    if leakage.mean is not None:
        subject, gap = "the same strategies reach on average", leakage.mean
    if gap.value is None or not gap.excludes_zero:
        return []
    reason = "there, images of one patient are in several folds"
    if gap.value < 0:
        reason = "images of one patient in several folds cannot explain that"
    return [f"Under the paper's protocol {subject} {_points(gap.value).lower()} here ({_bounds(gap)}): {reason}."]


def _undertrained(findings: Findings) -> Sequence[str]:
    if not findings.undertrained:
        return []
    return [
        f"Undertrained: the training loss of {joined(_titles(findings.undertrained))} still fell by more than "
        f"{UNDERTRAINED} from the third to the last quarter of the epochs. More `epochs` or `steps` in the profile "
        "would give another result."
    ]


def _calibration(findings: Findings) -> Sequence[str]:
    calibration = findings.calibration
    if calibration is None or not calibration.overconfident:
        return []
    return [
        f"The probabilities are overconfident: expected calibration error {text(calibration.ece_before)}, and "
        f"{text(calibration.ece_after)} after temperature scaling (temperature {text(calibration.temperature)})."
    ]


def _beside_paper(results: StudyResults) -> str:
    printed = percent(paper_metrics(PAPER_WINNER).accuracy_7_class)
    paper = f"In the paper {TITLES[PAPER_WINNER].lower()} came first, with {printed}"
    if PAPER_WINNER not in results.strategies:
        return f"{paper}; it was not run here."
    if results.best.strategy == PAPER_WINNER:
        return f"{paper}."
    place = [result.strategy for result in results.ranking].index(PAPER_WINNER) + 1
    accuracy = percent(results.strategies[PAPER_WINNER].mean.accuracy_7_class)
    return f"{paper}; here it is number {place}, with {accuracy}."


def _unlike_paper(results: StudyResults) -> Sequence[str]:
    pixels = results.study.profile.model.input_size
    ours = (results.images, results.study.folds, pixels)
    paper = (sum(PAPER_COUNTS.values()), paper_tables()["folds"], PAPER_PIXELS)
    if ours == paper:
        return []
    form = "{0:,} images, {1} folds and {2} × {2} pixels"
    return [
        f"This is not a replication of the paper, which used {form.format(*paper)}; this study used "
        f"{form.format(*ours)}. Differences between the two have many possible causes."
    ]


def _capitalized(clause: str) -> str:
    return f"{clause[:1].upper()}{clause[1:]}"
