"""Are the results supported? One verdict, with the reasons against, strongest first.

A reason is severe if it shows that the results do not hold elsewhere, or that something other than the lungs explains
them. Any other reason is a doubt: it would allow that. Finding no reason is not proof.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.finding_clauses import (
    association_text,
    compared_text,
    external_text,
    outside_text,
    pair_text,
    probe_text,
    within_text,
    worst_pair,
)
from cxr_platform.evaluation.findings import (
    PROBE_INPUTS,
    ExternalFinding,
    Findings,
    OutsideFinding,
    SourceFinding,
)
from cxr_platform.evaluation.formatting import count, joined, percent, rate, text, titles
from cxr_platform.evaluation.study_results import StudyResults
from cxr_platform.labels import POSITIVE_CLASS

NOT_SUPPORTED, PARTLY_SUPPORTED, NOT_TESTED = "Not supported", "Partly supported", "Not tested"
NOT_CONTRADICTED = "Not contradicted, which is not proof"
STRONG_ASSOCIATION = 0.3  # Cramér's V from which the source predicts the class (Cohen 1988: a medium effect)
SHOWN_EXTERNAL = 2  # sources described in full; further ones are named
SHOWN_REASONS = 3
NO_SHORTCUTS = ("lungs-only", "without-outline")  # probes that are never a shortcut, whatever they reach
ONE_SOURCE = "all images come from one source, so the results may not hold for images from other sources"
NOTHING_TESTED = "neither shortcut probes nor external images were evaluated for this report"
SPLIT_PATIENTS = "images of one patient may be in several folds, which makes the results too high"


@dataclass(frozen=True)
class Reason:
    """A clause without its full stop."""

    text: str
    severe: bool = False


@dataclass(frozen=True)
class Credibility:
    """`verdict` is one of the four above; `reasons` against are strongest first, and empty only for `NOT_CONTRADICTED`.

    `explanation` follows the verdict in a sentence: the strongest reasons, or what was tested.
    """

    verdict: str
    reasons: tuple[Reason, ...]
    explanation: str

    @property
    def alarm(self) -> bool:
        """True if the reader has to be warned."""
        return self.verdict != NOT_CONTRADICTED

    @property
    def further(self) -> tuple[Reason, ...]:
        """Reasons that `explanation` has no room for."""
        return self.reasons[SHOWN_REASONS:]


def assess_credibility(results: StudyResults, findings: Findings) -> Credibility:
    """Return the verdict on a study; every clause repeats numbers of a section."""
    reasons = [
        *_within_sources(findings),
        *_unseen_hospitals(findings),
        *_chance(results, findings),
        *_external(results, findings),
        *_outside(findings, results.decision.winner),
        *_probes(findings),
        *_left_out(findings),
        *_hospitals(findings),
        *_sources(findings),
        *_lungs(findings),
        *_leakage(results, findings),
    ]
    reasons.sort(key=lambda reason: not reason.severe)
    if any(reason.severe for reason in reasons):
        verdict = NOT_SUPPORTED
    elif not (
        findings.probes
        or findings.source_probes
        or findings.external
        or findings.outside
        or findings.left_out
        or findings.hospitals
        or (findings.unseen is not None and findings.unseen.change.value is not None)
        or findings.within is not None
        or findings.lungs is not None
    ):
        verdict, reasons = NOT_TESTED, [Reason(NOTHING_TESTED), *reasons]
    else:
        verdict = PARTLY_SUPPORTED if reasons else NOT_CONTRADICTED
    shown = [reason.text for reason in reasons[:SHOWN_REASONS]] or [_tests_passed(results, findings)]
    return Credibility(verdict, tuple(reasons), f"{_leading(findings, reasons)}{'; '.join(shown)}.")


def contradictions(findings: Sequence[ExternalFinding], strategy: str) -> list[ExternalFinding]:
    """Return one contradicting finding per source: of `strategy` if there is any, else of any strategy.

    Covid19 against the rest, the purpose of the models, comes before recall per class, then the largest gap.
    """
    candidates = [finding for finding in findings if finding.contradicts]
    candidates = [finding for finding in candidates if finding.strategy == strategy] or candidates
    by_source: dict[str, ExternalFinding] = {}
    for finding in sorted(candidates, key=lambda f: (f.measure != "recall", _gap(f)), reverse=True):
        by_source.setdefault(finding.source, finding)
    return list(by_source.values())


def source_predicts_class(findings: Findings) -> bool:
    """Return True if the image source predicts its class."""
    association = findings.association
    strong = association.cramers_v is not None and association.cramers_v >= STRONG_ASSOCIATION
    return association.sources > 1 and (strong or bool(association.single_source))


def _gap(finding: ExternalFinding) -> float:
    return (finding.internal.value or 0) - (finding.external.value or 0)


def _chance(results: StudyResults, findings: Findings) -> Iterator[Reason]:
    chance, low = results.majority_accuracy, findings.expected_accuracy.low
    if chance is not None and low is not None and low <= chance:
        yield Reason(
            f"the winner is not significantly better than always predicting the most frequent class, "
            f"{percent(chance)}, so probes have nothing to explain",
            severe=True,
        )


def _external(results: StudyResults, findings: Findings) -> Iterator[Reason]:
    """Severe for the winner; for another strategy a doubt that names it."""
    winner = results.decision.winner
    contradicting = contradictions(findings.external, winner)
    for finding in contradicting[:SHOWN_EXTERNAL]:
        severe = finding.strategy == winner
        whose = "" if severe else f"for {TITLES[finding.strategy].lower()}, not the winner, "
        yield Reason(f"{whose}{external_text(finding)}", severe)
    if further := contradicting[SHOWN_EXTERNAL:]:
        names = joined([f.source for f in further])
        yield Reason(f"results on {names} contradict cross-validation too", further[0].strategy == winner)


def _outside(findings: Findings, winner: str) -> Iterator[Reason]:
    """Severe if another disease is called Covid19 more often than images without Covid19 are in cross-validation."""
    higher = sorted(
        (found for found in _outside_sources(findings, winner) if found.higher),
        key=lambda found: found.share.value or 0.0,
        reverse=True,
    )
    for found in higher[:1]:
        others = f", and images of {joined([f.source for f in higher[1:]])} too often too" if higher[1:] else ""
        yield Reason(f"{outside_text(found)}{others}", severe=not found.small)


def _outside_sources(findings: Findings, winner: str) -> list[OutsideFinding]:
    return [found for found in findings.outside if found.strategy == winner and found.whole]


def _leading(findings: Findings, reasons: Sequence[Reason]) -> str:
    """Return the figures of the class within its sources if no reason has them: they are the first to be read."""
    within = findings.within
    if within is None or not reasons or not within.shown or within.falls:
        return ""
    return f"although {within_text(within)}, "


def _within_sources(findings: Findings) -> Iterator[Reason]:
    """Severe if the class stands out less than elsewhere, a doubt if it is not shown to stand out at all."""
    within = findings.within
    if within is None or (within.shown and not within.falls):
        return
    compared = compared_text(within)
    yield Reason(f"{within_text(within)}{compared and ', '}{compared}", severe=within.falls)


def _unseen_hospitals(findings: Findings) -> Iterator[Reason]:
    """Severe if the winner's accuracy falls far at hospitals that were left out of training, a doubt if it falls."""
    unseen = findings.unseen
    if unseen is None or not unseen.falls:
        return
    ranks = ""
    if unseen.mean_auc.value is not None:
        ranks = f", and ranks {POSITIVE_CLASS} of pairs of hospitals with a mean AUC of {text(unseen.mean_auc)}"
    fewer = text(abs(unseen.change.value or 0))
    yield Reason(
        f"trained without each hospital in turn, the winner gives {rate(unseen.accuracy)} of {unseen.images:,} images "
        f"of these, of classes that other hospitals have too, their class, {fewer} points less than when trained with "
        f"them{ranks}",
        severe=unseen.falls_far,
    )


def _left_out(findings: Findings) -> Iterator[Reason]:
    """Severe, or a doubt where few images of the class were left for training."""
    contradicting = [finding for finding in findings.left_out if finding.contradicts]
    for few in (False, True):
        group = [finding for finding in contradicting if finding.few_training_images == few]
        if not group:
            continue
        worst, others = max(group, key=_gap), len(group) - 1
        pairs = f", and likewise for {count(others, 'other pair', 'other pairs')} of class and source" if others else ""
        training = f" (only {worst.training_images} training images from other sources)" if few else ""
        yield Reason(
            f"a simple model trained without {worst.source} recognises {percent(worst.external.value)} of its "
            f"{worst.images:,} {worst.label} images{training}, and {percent(worst.internal.value)} when trained with it"
            f"{pairs}",
            severe=not few,
        )


def _hospitals(findings: Findings) -> Iterator[Reason]:
    """Severe if some pair of origins is ranked the wrong way round, a doubt if one is not ranked better than by chance.

    The lower bound of the worst of all pairs is below 0.5 in nearly every study: it is not asked.
    """
    if not findings.hospitals:
        return
    # The lowest of many AUCs is not always the one that is surely below chance: that also depends on its patients.
    worst = worst_pair([pair for pair in findings.hospitals if pair.reversed] or findings.hospitals)
    if worst.auc.value is not None and worst.auc.value <= 0.5:
        model = titles([worst.strategy])[0] if worst.strategy else "a simple model"
        yield Reason(
            f"with one origin left out, {model} does not rank the images of each pair of origins; worst is "
            f"{pair_text(worst)}",
            severe=worst.reversed,
        )


def _probes(findings: Findings) -> Iterator[Reason]:
    shortcuts = [probe for probe in findings.probes if probe.shortcut]
    if shortcuts:
        shortcuts.sort(key=lambda probe: probe.accuracy.value or 0, reverse=True)
        reached = joined([probe_text(probe) for probe in shortcuts])
        yield Reason(
            f"without the lungs, 7-class accuracy is {reached}, with {percent(shortcuts[0].chance)} by chance",
            severe=True,
        )


def _sources(findings: Findings) -> Iterator[Reason]:
    association = findings.association
    if association.sources < 2:
        if not findings.external:
            yield Reason(ONE_SOURCE)
        return
    if source_predicts_class(findings):
        yield Reason(association_text(association))
        predictable = [probe for probe in findings.source_probes if _predicts_source(probe)]
        if predictable:
            best = max(predictable, key=lambda probe: probe.accuracy.value or 0)
            yield Reason(
                f"the source is predicted from {PROBE_INPUTS.get(best.probe, best.probe)} for {rate(best.accuracy)} of "
                f"images (always the largest source: {percent(best.chance)})"
            )


def _predicts_source(probe: SourceFinding) -> bool:
    """True if the probe halves the error of always predicting the largest source, and its interval is above chance."""
    value, low = probe.accuracy.value, probe.accuracy.low
    return value is not None and value >= (probe.chance + 100) / 2 and (low is None or low > probe.chance)


def _lungs(findings: Findings) -> Iterator[Reason]:
    lungs = findings.lungs
    if lungs is not None and lungs.low:
        yield Reason(
            f"only {rate(lungs.share)} of the heatmaps lies in the lungs, which cover "
            f"{percent(lungs.field_share)} of the image (weak evidence by itself)"
        )


def _leakage(results: StudyResults, findings: Findings) -> Iterator[Reason]:
    """Only for the paper's protocol: leakage there is no reason against the results of grouped folds."""
    if results.study.protocol != "paper":
        return
    leakage = findings.leakage
    if leakage is None or leakage.difference.value is None:
        yield Reason(SPLIT_PATIENTS)
    elif leakage.difference.excludes_zero and leakage.difference.value > 0:
        yield Reason(f"{SPLIT_PATIENTS}; they are {text(leakage.difference.value)} points above those of grouped folds")


def _tests_passed(results: StudyResults, findings: Findings) -> str:
    """Tests that found nothing; those without anything to compare with are left out."""
    parts = [within_text(findings.within)] if findings.within is not None else []
    if probes := [probe for probe in findings.probes if probe.name not in NO_SHORTCUTS]:
        best = max(probes, key=lambda probe: probe.accuracy.value or 0)
        parts.append(f"no probe is a shortcut (the best, “{best.title}”, reaches {rate(best.accuracy)})")
    if external := [finding for finding in findings.external if _compared(finding)]:
        names = joined(sorted({finding.source for finding in external}))
        parts.append(f"the results on images of {names} do not contradict cross-validation")
    if outside := _outside_sources(findings, results.decision.winner):
        names = joined([found.source for found in outside])
        parts.append(
            f"images of {names}, of none of the classes, are not called {POSITIVE_CLASS} more often than others"
        )
    if any(_compared(finding) for finding in findings.left_out):
        parts.append("no source left out of training is recognised significantly worse")
    if findings.hospitals:
        parts.append(f"the worst pair of origins is {pair_text(worst_pair(findings.hospitals))}")
    if findings.lungs is not None:
        parts.append(f"{rate(findings.lungs.share)} of the heatmaps lies in the lungs")
    return joined(parts) or "the source of an image hardly predicts its class"


def _compared(finding: ExternalFinding) -> bool:
    return finding.external.value is not None and finding.internal.value is not None
