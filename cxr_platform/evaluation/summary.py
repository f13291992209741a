"""The first lines of the report: what was compared, what won, by how much, can it be believed, what to do next."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.strategies import PAPER_WINNER, TITLES
from cxr_platform.evaluation.credibility import NOT_SUPPORTED, Credibility, assess_credibility, confounding_warning
from cxr_platform.evaluation.findings import OVERCONFIDENT, Comparison, Findings
from cxr_platform.evaluation.formatting import NBSP, joined, p_text, percent, rate, text
from cxr_platform.evaluation.paper import paper_metrics, paper_tables
from cxr_platform.evaluation.study_results import RULE, StudyResults
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
class SummaryLine:
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
class Summary:
    """Words for a person, commands in backticks. `winner_line` is the one that fits on a terminal."""

    headline: str
    winner_line: str
    lines: tuple[SummaryLine, ...]
    warnings: tuple[str, ...]
    limits: tuple[str, ...]


def summarize(results: StudyResults, findings: Findings) -> Summary:
    """Put figures of an outcome and of the sections into words; computes none of its own."""
    judged = assess_credibility(results, findings)
    lines = (
        SummaryLine("What was compared", *_compared(results)),
        SummaryLine("What won", *_won(results, findings)),
        SummaryLine("By how much", *_by_how_much(results, findings)),
        SummaryLine("Can it be believed", f"{judged.verdict}:", judged.because, judged.alarm),
        SummaryLine("What to do next", *steps_as_sentences(next_steps(results, findings, judged))),
    )
    warned = confounding_warning(findings.association)
    limits = (*_further(judged), INTERVALS, *_protocol(results, findings), *_calibration(findings))
    return Summary(
        _headline(results, findings, judged),
        winner_line(results),
        lines,
        (warned,) if warned else (),
        (*limits, _beside_paper(results), *_unlike_paper(results)),
    )


def winner_line(results: StudyResults) -> str:
    """The winner by the paper's rule, for a terminal."""
    decision, best = results.decision, results.best
    line = f"Winner by the paper's rule: {best.strategy}, 7-class accuracy {text(best.mean.accuracy_7_class)} %"
    if decision.runner_up is None:
        return f"{line} (the only strategy run)."
    if decision.decided_by == "nothing":
        return f"{line}, level with {joined(decision.tied)}."
    if decision.decided_by == "specificity":
        return f"{line}, as {decision.runner_up}, with the higher specificity."
    return f"{line}, {text(decision.margin_points)} points ahead of {decision.runner_up}."


def _headline(results: StudyResults, findings: Findings, judged: Credibility) -> str:
    decision, winner = results.decision, TITLES[results.decision.winner]
    reached = f"{percent(findings.accuracy.value)} 7-class accuracy"
    doubt = ", which should not be believed as it stands" if judged.verdict == NOT_SUPPORTED else ""
    if decision.runner_up is None:
        return f"{winner}: {reached}{doubt}"
    if decision.decided_by == "nothing":
        return f"{joined([winner, *_named(decision.tied)])} share the first place, with {reached}{doubt}"
    return f"First of {len(results.strategies)} strategies: {winner.lower()}, with {reached}{doubt}"


def _compared(results: StudyResults) -> tuple[str, str]:
    study, ran = results.study, len(results.strategies)
    which = "All" if not study.not_run else "One" if ran == 1 else str(ran)
    return (
        f"{which} of the paper's eight ways of training MobileNetV2, on {results.images:,} images of "
        f"{_classes(results)} in {study.folds} folds.",
        "Every image was scored by a network trained without its fold; protocol "
        f"“{study.protocol}”: {PROTOCOL_MEANING[study.protocol]}.",
    )


def _classes(results: StudyResults) -> str:
    present = sum(bool(results.counts[label]) for label in CLASSES)
    return "seven classes" if present == len(CLASSES) else f"{present} of the seven classes"


def _won(results: StudyResults, findings: Findings) -> tuple[str, str]:
    return (
        f"{TITLES[results.best.strategy]}: {rate(findings.accuracy)} of images in the right class.",
        f"Always naming the most frequent class would be right for {percent(results.majority_accuracy)}. "
        f"{POSITIVE_CLASS} against the rest: sensitivity {rate(findings.sensitivity)}, specificity "
        f"{rate(findings.specificity)}.",
    )


def _beside_paper(results: StudyResults) -> str:
    printed = percent(paper_metrics(PAPER_WINNER).accuracy_7_class)
    paper = f"In the paper {TITLES[PAPER_WINNER].lower()} came first, with {printed}"
    if PAPER_WINNER not in results.strategies:
        return f"{paper}; it was not run here."
    if results.best.strategy == PAPER_WINNER:
        return f"{paper}."
    place = [result.strategy for result in results.ranking].index(PAPER_WINNER) + 1
    return (
        f"{paper}; here it takes place {place}, with {percent(results.strategies[PAPER_WINNER].mean.accuracy_7_class)}."
    )


def _by_how_much(results: StudyResults, findings: Findings) -> tuple[str, str]:
    decision = results.decision
    if decision.runner_up is None:
        return "No other strategy was run.", ""
    if decision.decided_by == "nothing":
        return f"As many as {joined(_named(decision.tied))}.", _level(decision.tied)
    compared = {comparison.other: comparison for comparison in findings.comparisons}
    if decision.runner_up not in compared:
        return f"{_points(decision.margin_points)} {_second(results)}.", "No test was computed."
    tested = compared.pop(decision.runner_up)
    verdict = "more than chance explains" if tested.significant else "the two cannot be told apart"
    short = f"{_points(tested.difference.value)} {_second(results)}: {verdict}."
    return short, f"{_test(tested, len(findings.comparisons))} {_others(list(compared.values()))}".rstrip()


def _second(results: StudyResults) -> str:
    """The second by name; where the accuracies are level to the printed digit, with what decides between the two."""
    decision = results.decision
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
    level = _named(c.other for c in others if not c.significant)
    return f"Of the others, {joined(level)} cannot be told from it." if level else ""


def _named(strategies: Iterable[str]) -> list[str]:
    return [TITLES[strategy].lower() for strategy in strategies]


def _further(judged: Credibility) -> list[str]:
    return [f"{reason.text[:1].upper()}{reason.text[1:]}." for reason in judged.further]


def _protocol(results: StudyResults, findings: Findings) -> list[str]:
    if results.study.protocol == "paper":
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


def _unlike_paper(results: StudyResults) -> list[str]:
    pixels = results.study.profile.model.input_size
    ours = (results.images, results.study.folds, pixels)
    paper = (sum(PAPER_COUNTS.values()), paper_tables()["folds"], PAPER_PIXELS)
    if ours == paper:
        return []
    form = "{0:,} images, {1} folds and {2} × {2} pixels"
    return [
        f"It is no repetition of the paper, which used {form.format(*paper)}; this study used {form.format(*ours)}. "
        "Differences between the two have many causes."
    ]


# What to do next: derived from what speaks against a study, each step with the command that does it.


SHOWN_STEPS = 3


PAPER_FOLDS = 10


def next_steps(results: StudyResults, findings: Findings, belief: Credibility) -> list[str]:
    """Steps as clauses, the most urgent first, commands in backticks; never empty."""
    return [
        *_real_images(results),
        *_second_source(findings),
        *_compute(results, findings, belief),
        *_images_from_elsewhere(results, findings),
        *_other_protocol(results, findings),
        *_more_folds(results, findings),
        "look through the failures and the heatmaps with a radiologist",
    ]


def steps_as_sentences(steps: list[str]) -> tuple[str, str]:
    """The first step as a sentence, and some further ones as another; the second is empty where there is one step."""
    first, *others = steps[:SHOWN_STEPS]
    return f"{first[:1].upper()}{first[1:]}.", f"Then {'; then '.join(others)}." if others else ""


def _real_images(results: StudyResults) -> Iterator[str]:
    if results.study.manifest.synthetic:
        yield "run the same on real images: `make cv-all DATA=FOLDER`"


def _second_source(findings: Findings) -> Iterator[str]:
    single = list(findings.association.single_source)
    if findings.association.sources > 1 and single:
        yield f"get images of {joined(single)} from a second source and run again: `make cv-all DATA=FOLDER`"
    elif any(finding.contradicts for finding in (*findings.external, *findings.left_out)):
        yield "train on images of more sources: `make cv-all DATA=FOLDER`"


def _compute(results: StudyResults, findings: Findings, belief: Credibility) -> Iterator[str]:
    if not findings.probes:
        yield f"compute the probes for shortcuts: `cxr report --study runs/{results.study.name} --manifest FOLDER`"
    elif belief.alarm:
        yield "give no accuracy without the probes beside it"


def _images_from_elsewhere(results: StudyResults, findings: Findings) -> Iterator[str]:
    if not findings.external:
        yield f"score images from elsewhere: `cxr evaluate --study runs/{results.study.name} --data FOLDER`"


def _other_protocol(results: StudyResults, findings: Findings) -> Iterator[str]:
    if findings.leakage is None:
        yield f"see what leakage adds: `make cv-all {_data(results)}PROTOCOL=both`"


def _more_folds(results: StudyResults, findings: Findings) -> Iterator[str]:
    if results.study.folds < PAPER_FOLDS:
        apart = all(comparison.significant for comparison in findings.comparisons)
        reason = "repeat it as the paper did" if apart else "tell the strategies apart with ten folds and larger images"
        yield f"{reason}: `make cv-all {_data(results)}PROFILE=paper`"


def _data(results: StudyResults) -> str:
    return "" if results.study.manifest.synthetic else "DATA=FOLDER "
