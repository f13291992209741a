"""The first lines of the report: what was compared, what won by how much, and what the figures do not show."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cxr_platform.evaluation.metrics import StrategyResult
from cxr_platform.evaluation.outcome import Outcome
from cxr_platform.evaluation.paper import STRATEGIES, WINNER, paper_figures, paper_tables
from cxr_platform.evaluation.ranking import RULE, Verdict
from cxr_platform.evaluation.table import text
from cxr_platform.labels import CLASSES, PAPER_COUNTS, POSITIVE_CLASS

PROTOCOL_MEANING: Mapping[str, str] = {
    "grouped": "films of one patient, duplicates and near-duplicates stay in one fold",
    "paper": "films are shuffled into folds one by one, as the paper did",
}
PAPER_PIXELS = 200  # §2.1.4
NUMBERS = {2: "two", 3: "three"}
NBSP = "\N{NO-BREAK SPACE}"
NO_INTERVALS = (
    "There are no confidence intervals yet: the spread between folds does not say which differences are chance."
)
NO_PROBES = (
    "There is no test for shortcuts yet: a network may recognise the collection that a film comes from instead of "
    "the disease."
)
LEAKAGE = "Films of one patient may stand on both sides of a fold, which makes figures too high."


@dataclass(frozen=True)
class Answer:
    """Sentences for a person. `winner_line` is the one that fits on a terminal."""

    headline: str
    winner_line: str
    findings: tuple[str, ...]
    limits: tuple[str, ...]


def answer(outcome: Outcome) -> Answer:
    """Put the figures of an outcome into words; computes none of its own."""
    findings = (_compared(outcome), _won(outcome), _covid(outcome), _beside_paper(outcome))
    limits = (NO_INTERVALS, _no_probes(outcome), *_protocol_limit(outcome), *_unlike_paper(outcome))
    return Answer(_headline(outcome), _winner_line(outcome), findings, limits)


def confounding(outcome: Outcome) -> str:
    """A warning that names the classes whose films all come from one source; empty where every class has several,
    and where there is only one in the whole study, by which nothing can be recognised."""
    if outcome.only_source:
        return ""
    by_source: dict[str, list[str]] = {}
    for label, source in outcome.single_source.items():
        by_source.setdefault(source, []).append(label)
    if not by_source:
        return ""
    parts = "; ".join(f"{', '.join(labels)} only from {source}" for source, labels in by_source.items())
    return f"{parts}. Where a class has a single source, recognising the source is enough to be counted right."


def _headline(outcome: Outcome) -> str:
    decision, winner = outcome.verdict, STRATEGIES[outcome.verdict.winner]
    reached = f"{_percent(outcome.best.mean.accuracy_7_class)} 7-class accuracy"
    if decision.runner_up is None:
        return f"{winner}: {reached}"
    if decision.decided_by == "nothing":
        return f"{_joined([winner, *_named(decision.level)])} share the first place, with {reached}"
    return f"First of {len(outcome.results)} strategies: {winner.lower()}, with {reached}"


def _winner_line(outcome: Outcome) -> str:
    decision, best = outcome.verdict, outcome.best
    line = f"Winner by the paper's rule: {best.strategy}, 7-class accuracy {text(best.mean.accuracy_7_class)} %"
    if decision.runner_up is None:
        return f"{line} (the only strategy run)."
    if decision.decided_by == "nothing":
        return f"{line}, level with {_joined(decision.level)}."
    if decision.decided_by == "specificity":
        return f"{line}, as {decision.runner_up}, with the higher specificity."
    return f"{line}, {text(decision.margin_points)} points ahead of {decision.runner_up}."


def _compared(outcome: Outcome) -> str:
    study, ran = outcome.study, len(outcome.results)
    which = "All" if not study.not_run else "One" if ran == 1 else str(ran)
    return (
        f"{which} of the paper's eight ways of training MobileNetV2 {'was' if ran == 1 else 'were'} tested on "
        f"{outcome.images:,} films of seven classes in {study.folds} folds, so that every film was scored by a "
        f"network trained without its fold. Protocol “{study.protocol}”: {PROTOCOL_MEANING[study.protocol]}."
    )


def _won(outcome: Outcome) -> str:
    best, decision = outcome.best, outcome.verdict
    reached = f"{text(best.spread['accuracy_7_class'])}{NBSP}% of films in the right class (mean ± sd over folds)"
    start = f"{STRATEGIES[best.strategy]}: {reached}"
    chance = f"Always answering the most frequent class would reach {_percent(outcome.majority_accuracy)}."
    if decision.runner_up is None:
        return f"{start}; no other strategy was run. {chance}"
    return f"{start}, {_margin(best, decision, decision.runner_up)} {chance} The paper's rule is {RULE}."


def _margin(best: StrategyResult, decision: Verdict, runner_up: str) -> str:
    second = STRATEGIES[runner_up].lower()
    ahead = f"It leads in {decision.folds_ahead} of {len(best.folds)} folds."
    margins = {
        "accuracy_7_class": f"{text(decision.margin_points)} points more than {second}, the second. {ahead}",
        "specificity": f"as many as {second}, but with the higher specificity, which decides. {ahead}",
        "nothing": f"as many as {_joined(_named(decision.level))}, with the same specificity: the rule does not part "
        f"the {NUMBERS.get(len(decision.level) + 1, len(decision.level) + 1)}.",
    }
    return margins[decision.decided_by]


def _named(strategies: Iterable[str]) -> list[str]:
    return [STRATEGIES[strategy].lower() for strategy in strategies]


def _joined(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _covid(outcome: Outcome) -> str:
    pooled = outcome.best.pooled
    return (
        f"{POSITIVE_CLASS} against the rest: {_percent(pooled.sensitivity)} sensitivity and "
        f"{_percent(pooled.specificity)} specificity (all folds pooled)."
    )


def _beside_paper(outcome: Outcome) -> str:
    printed = _percent(paper_figures(WINNER).accuracy_7_class)
    paper = f"In the paper {STRATEGIES[WINNER].lower()} came first, with {printed}"
    if WINNER not in outcome.results:
        return f"{paper}; it was not run here."
    if outcome.best.strategy == WINNER:
        return f"{paper}."
    place = [result.strategy for result in outcome.ranking].index(WINNER) + 1
    return f"{paper}; here it takes place {place}, with {_percent(outcome.results[WINNER].mean.accuracy_7_class)}."


def _no_probes(outcome: Outcome) -> str:
    if outcome.only_source:
        return f"{NO_PROBES} All films come from one source, so that a shortcut by source could not be told anyway."
    single = len(outcome.single_source)
    counted = f"{single} of {len(CLASSES)} classes {'come' if single > 1 else 'comes'} from a single source"
    return f"{NO_PROBES} {counted}." if single else NO_PROBES


def _protocol_limit(outcome: Outcome) -> list[str]:
    return [LEAKAGE] if outcome.study.protocol == "paper" else []


def _unlike_paper(outcome: Outcome) -> list[str]:
    pixels = outcome.study.profile.get("model", {}).get("input_size", PAPER_PIXELS)
    ours = (outcome.images, outcome.study.folds, pixels)
    paper = (sum(PAPER_COUNTS.values()), paper_tables()["folds"], PAPER_PIXELS)
    if ours == paper:
        return []
    form = "{0:,} films, {1} folds and {2} × {2} pixels"
    return [
        f"It is no repetition of the paper, which used {form.format(*paper)}; this study used {form.format(*ours)}. "
        "Differences between the two have many causes."
    ]


def _percent(value: float | None) -> str:
    return "an undefined share" if value is None else f"{text(value)}{NBSP}%"
