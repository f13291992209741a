"""The summary on the first page of the report: five lines, warnings, and what the results do not show."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cxr_platform.domain.strategies import STRATEGY_NAMES, TITLES
from cxr_platform.evaluation.credibility import NOT_SUPPORTED, Credibility, assess_credibility
from cxr_platform.evaluation.finding_clauses import confounding_warning
from cxr_platform.evaluation.findings import Findings, StrategyComparison
from cxr_platform.evaluation.formatting import NBSP, bounds, joined, p_text, percent, points, rate, text, titles
from cxr_platform.evaluation.limits import known_patients, study_limits
from cxr_platform.evaluation.study_results import RULE, StudyResults
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

COMPARED, BEST, MARGIN = "What was compared", "Best strategy", "Margin"
CREDIBILITY, NEXT_STEPS = "Credibility", "Next steps"
"""Titles of the five lines."""
PROTOCOL_MEANING: Mapping[str, str] = {
    "grouped": "images of one known patient, duplicates and near-duplicates stay in one fold",
    "paper": "images are shuffled into folds one by one, as in the paper",
}
PAPER_FOLDS = 10
SHOWN_STEPS = 3
NUMBERS = {2: "two", 3: "three"}


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
            *study_limits(results, findings),
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
        return f"{joined([winner, *titles(decision.tied)])} share the first place, with {accuracy}{doubt}"
    return f"First of {len(results.strategies)} strategies: {winner.lower()}, with {accuracy}{doubt}"


def _compared(results: StudyResults) -> tuple[str, str]:
    study = results.study
    ran = [name for name in results.strategies if name in STRATEGY_NAMES]
    which = "All" if not study.not_run else "One" if len(ran) == 1 else str(len(ran)) if ran else "None"
    others = titles([name for name in results.strategies if name not in STRATEGY_NAMES])
    own = f", and {joined(others)}, which the paper does not have" if others else ""
    present = sum(bool(results.counts[label]) for label in CLASSES)
    classes = "seven classes" if present == len(CLASSES) else f"{present} of the seven classes"
    return (
        f"{which} of the paper's eight training strategies for MobileNetV2{own}, on {results.images:,} images of "
        f"{classes} in {study.folds} folds.",
        "Each image was predicted by a network trained without its fold; protocol "
        f"“{study.protocol}”: {PROTOCOL_MEANING[study.protocol]}. {known_patients(results)}",
    )


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
            f"Tied with {joined(titles(decision.tied))}.",
            f"Their specificity is the same too: the rule, {RULE}, does not separate the {number}.",
        )
    second = f"{TITLES[decision.runner_up].lower()}, the second"
    if decision.decided_by == "specificity":
        second += " (the higher specificity decides)"
    comparisons = {comparison.other: comparison for comparison in findings.comparisons}
    if decision.runner_up not in comparisons:
        return f"{points(decision.margin_points)} {second}.", "No test was computed."
    tested = comparisons.pop(decision.runner_up)
    verdict = "a significant difference" if tested.significant else "not significantly different"
    level = titles(c.other for c in comparisons.values() if not c.significant)
    others = f" Not significantly different either: {joined(level)}." if level else ""
    return (
        f"{points(tested.difference.value)} {second}: {verdict}.",
        f"{_test(tested)}{others}",
    )


def _test(tested: StrategyComparison) -> str:
    corrected = f", corrected for all {tested.pairs} pairs of strategies" if tested.pairs > 1 else ""
    test = f"sign test over patients{corrected}: {p_text(tested.p_adjusted)}"
    if tested.difference.low is None:
        return f"S{test[1:]}."
    return f"95{NBSP}% interval of the difference {bounds(tested.difference)}; {test}."


def _capitalized(clause: str) -> str:
    return f"{clause[:1].upper()}{clause[1:]}"
