"""The first lines of the report: what was compared, what won, by how much, can it be believed, what to do next."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.strategies import PAPER_WINNER, TITLES
from cxr_platform.evaluation.credibility import NO, Belief, belief
from cxr_platform.evaluation.findings import Comparison, Findings
from cxr_platform.evaluation.next_steps import in_words, next_steps
from cxr_platform.evaluation.paper import paper_figures, paper_tables
from cxr_platform.evaluation.prose import NBSP, joined, p_text, percent, rate
from cxr_platform.evaluation.ranking import RULE
from cxr_platform.evaluation.sections.calibration import OVERCONFIDENT
from cxr_platform.evaluation.sections.sources import confounding
from cxr_platform.evaluation.study_results import Outcome
from cxr_platform.evaluation.table import text
from cxr_platform.labels import CLASSES, PAPER_COUNTS, POSITIVE_CLASS

PROTOCOL_MEANING: Mapping[str, str] = {
    "grouped": "images of one patient, duplicates and near-duplicates stay in one fold",
    "paper": "images are shuffled into folds one by one, as the paper did",
}
PAPER_PIXELS = 200  # §2.1.4
NUMBERS = {2: "two", 3: "three"}
INTERVALS = (
    "The 95 % intervals tell what other patients from the same sources would change. They leave out that training "
    "again gives another network, and that another hospital has other images."
)
LEAKAGE = "Images of one patient may stand on both sides of a fold, which makes figures too high."


@dataclass(frozen=True)
class AnswerLine:
    """One of the five: `short` for ten seconds, `rest` for a minute; `alarm` where a reader has to be warned."""

    title: str
    short: str
    rest: str
    alarm: bool = False

    @property
    def text(self) -> str:
        """Both."""
        return f"{self.short} {self.rest}".rstrip()


@dataclass(frozen=True)
class Answer:
    """Words for a person, commands in backticks. `winner_line` is the one that fits on a terminal."""

    headline: str
    winner_line: str
    lines: tuple[AnswerLine, ...]
    warnings: tuple[str, ...]
    limits: tuple[str, ...]


def answer(outcome: Outcome, findings: Findings) -> Answer:
    """Put figures of an outcome and of the sections into words; computes none of its own."""
    judged = belief(outcome, findings)
    lines = (
        AnswerLine("What was compared", *_compared(outcome)),
        AnswerLine("What won", *_won(outcome, findings)),
        AnswerLine("By how much", *_by_how_much(outcome, findings)),
        AnswerLine("Can it be believed", f"{judged.verdict}:", judged.because, judged.alarm),
        AnswerLine("What to do next", *in_words(next_steps(outcome, findings, judged))),
    )
    warned = confounding(findings.association)
    limits = (*_further(judged), INTERVALS, *_protocol(outcome, findings), *_calibration(findings))
    return Answer(
        _headline(outcome, findings, judged),
        winner_line(outcome),
        lines,
        (warned,) if warned else (),
        (*limits, _beside_paper(outcome), *_unlike_paper(outcome)),
    )


def winner_line(outcome: Outcome) -> str:
    """The winner by the paper's rule, for a terminal."""
    decision, best = outcome.verdict, outcome.best
    line = f"Winner by the paper's rule: {best.strategy}, 7-class accuracy {text(best.mean.accuracy_7_class)} %"
    if decision.runner_up is None:
        return f"{line} (the only strategy run)."
    if decision.decided_by == "nothing":
        return f"{line}, level with {joined(decision.level)}."
    if decision.decided_by == "specificity":
        return f"{line}, as {decision.runner_up}, with the higher specificity."
    return f"{line}, {text(decision.margin_points)} points ahead of {decision.runner_up}."


def _headline(outcome: Outcome, findings: Findings, judged: Belief) -> str:
    decision, winner = outcome.verdict, TITLES[outcome.verdict.winner]
    reached = f"{percent(findings.accuracy.value)} 7-class accuracy"
    doubt = ", which should not be believed as it stands" if judged.verdict == NO else ""
    if decision.runner_up is None:
        return f"{winner}: {reached}{doubt}"
    if decision.decided_by == "nothing":
        return f"{joined([winner, *_named(decision.level)])} share the first place, with {reached}{doubt}"
    return f"First of {len(outcome.results)} strategies: {winner.lower()}, with {reached}{doubt}"


def _compared(outcome: Outcome) -> tuple[str, str]:
    study, ran = outcome.study, len(outcome.results)
    which = "All" if not study.not_run else "One" if ran == 1 else str(ran)
    return (
        f"{which} of the paper's eight ways of training MobileNetV2, on {outcome.images:,} images of "
        f"{_classes(outcome)} in {study.folds} folds.",
        "Every image was scored by a network trained without its fold; protocol "
        f"“{study.protocol}”: {PROTOCOL_MEANING[study.protocol]}.",
    )


def _classes(outcome: Outcome) -> str:
    present = sum(bool(outcome.counts[label]) for label in CLASSES)
    return "seven classes" if present == len(CLASSES) else f"{present} of the seven classes"


def _won(outcome: Outcome, findings: Findings) -> tuple[str, str]:
    return (
        f"{TITLES[outcome.best.strategy]}: {rate(findings.accuracy)} of images in the right class.",
        f"Always naming the most frequent class would be right for {percent(outcome.majority_accuracy)}. "
        f"{POSITIVE_CLASS} against the rest: sensitivity {rate(findings.sensitivity)}, specificity "
        f"{rate(findings.specificity)}.",
    )


def _beside_paper(outcome: Outcome) -> str:
    printed = percent(paper_figures(PAPER_WINNER).accuracy_7_class)
    paper = f"In the paper {TITLES[PAPER_WINNER].lower()} came first, with {printed}"
    if PAPER_WINNER not in outcome.results:
        return f"{paper}; it was not run here."
    if outcome.best.strategy == PAPER_WINNER:
        return f"{paper}."
    place = [result.strategy for result in outcome.ranking].index(PAPER_WINNER) + 1
    return f"{paper}; here it takes place {place}, with {percent(outcome.results[PAPER_WINNER].mean.accuracy_7_class)}."


def _by_how_much(outcome: Outcome, findings: Findings) -> tuple[str, str]:
    decision = outcome.verdict
    if decision.runner_up is None:
        return "No other strategy was run.", ""
    if decision.decided_by == "nothing":
        return f"As many as {joined(_named(decision.level))}.", _level(decision.level)
    compared = {comparison.other: comparison for comparison in findings.comparisons}
    if decision.runner_up not in compared:
        return f"{_points(decision.margin_points)} {_second(outcome)}.", "No test was computed."
    tested = compared.pop(decision.runner_up)
    verdict = "more than chance explains" if tested.told_apart else "the two cannot be told apart"
    short = f"{_points(tested.difference.value)} {_second(outcome)}: {verdict}."
    return short, f"{_test(tested, len(findings.comparisons))} {_others(list(compared.values()))}".rstrip()


def _second(outcome: Outcome) -> str:
    """The second by name; where the accuracies are level to the printed digit, with what decides between the two."""
    decision = outcome.verdict
    second = f"{TITLES[decision.runner_up or ''].lower()}, the second"
    return f"{second} (the higher specificity decides)" if decision.decided_by == "specificity" else second


def _test(tested: Comparison, comparisons: int) -> str:
    corrected = f", corrected for {comparisons} comparisons" if comparisons > 1 else ""
    test = f"McNemar's test{corrected}: {p_text(tested.p_adjusted)}"
    if tested.difference.low is None:
        return f"{test}."
    return f"95{NBSP}% interval of the difference {_bounds(tested.difference)}; {test}."


def _bounds(difference: Interval) -> str:
    low, high = (text(bound, signed=True) for bound in (difference.low, difference.high))
    return f"{low} to {high}"


def _points(value: float | None) -> str:
    if value is None:
        return "An undefined difference to"
    if round(value, 2) == 0:
        return "Level with"
    return f"{text(abs(value))} points of 7-class accuracy {'more' if value > 0 else 'less'} than"


def _level(level: Sequence[str]) -> str:
    number = NUMBERS.get(len(level) + 1, str(len(level) + 1))
    return f"Their specificity is the same too: the rule, {RULE}, does not part the {number}."


def _others(others: Sequence[Comparison]) -> str:
    level = _named(c.other for c in others if not c.told_apart)
    return f"Of the others, {joined(level)} cannot be told from it." if level else ""


def _named(strategies: Iterable[str]) -> list[str]:
    return [TITLES[strategy].lower() for strategy in strategies]


def _further(judged: Belief) -> list[str]:
    return [f"{reason.text[:1].upper()}{reason.text[1:]}." for reason in judged.further]


def _protocol(outcome: Outcome, findings: Findings) -> list[str]:
    if outcome.study.protocol == "paper":
        return [LEAKAGE]
    found = findings.leakage
    if found is None:
        return []
    whose, gap = ("the same strategy reaches", found.difference)
    if found.mean is not None:
        whose, gap = ("the same strategies reach on average", found.mean)
    if gap.value is None or not gap.excludes_zero:
        return []
    reason = "there images of one patient stand on both sides of a fold"
    if gap.value < 0:
        reason = "images of one patient on both sides of a fold cannot explain that"
    return [f"Under the paper's protocol {whose} {_points(gap.value).lower()} here ({_bounds(gap)}): {reason}."]


def _calibration(findings: Findings) -> list[str]:
    found = findings.calibration
    if found is None or found.temperature <= OVERCONFIDENT:
        return []
    return [
        f"The probabilities are too sure of themselves: expected calibration error {text(found.ece_before)}, and "
        f"{text(found.ece_after)} once the logits are divided by a temperature of {text(found.temperature)}."
    ]


def _unlike_paper(outcome: Outcome) -> list[str]:
    pixels = outcome.study.profile.get("model", {}).get("input_size", PAPER_PIXELS)
    ours = (outcome.images, outcome.study.folds, pixels)
    paper = (sum(PAPER_COUNTS.values()), paper_tables()["folds"], PAPER_PIXELS)
    if ours == paper:
        return []
    form = "{0:,} images, {1} folds and {2} × {2} pixels"
    return [
        f"It is no repetition of the paper, which used {form.format(*paper)}; this study used {form.format(*ours)}. "
        "Differences between the two have many causes."
    ]
