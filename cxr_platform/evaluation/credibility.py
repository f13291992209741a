"""Can the figures be believed? One verdict, with the reasons that speak against them, strongest first.

Severe is what shows that figures do not hold or that something else than the lungs is enough for them; a doubt is what
would allow it. No reason found is no proof.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.findings import (
    PROBE_INPUTS,
    Association,
    ExternalFinding,
    Findings,
    ProbeFinding,
    SourceFinding,
)
from cxr_platform.evaluation.formatting import count, joined, percent, rate, text
from cxr_platform.evaluation.study_results import StudyResults
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

NOT_SUPPORTED, PARTLY_SUPPORTED, NOT_TESTED = "No", "Partly", "Not known"
NOT_CONTRADICTED = "Nothing here speaks against it, which is not proof"
STRONG_ASSOCIATION = 0.3  # Cramér's V from which the source helps to tell the class (Cohen 1988: a medium effect)
SHOWN_EXTERNAL = 2  # contradictions in full; further sources are named
SHOWN_REASONS = 3
LUNGS_ONLY = "lungs-only"  # the probe that is no shortcut, however much it knows
ONE_SOURCE = "all images come from one source, so that nobody knows what holds for images from elsewhere"
NOTHING_TESTED = "neither probes for shortcuts nor images from elsewhere were computed for this report"
MIXED = "images of one patient may stand on both sides of a fold, which makes figures too high"


@dataclass(frozen=True)
class Reason:
    """A clause without its full stop."""

    text: str
    severe: bool = False


@dataclass(frozen=True)
class Credibility:
    """`verdict` is one of the four above; `reasons` are strongest first, and empty only beside `NOT_CONTRADICTED`.

    `because` are the strongest as words that follow the verdict.
    """

    verdict: str
    reasons: tuple[Reason, ...]
    because: str

    @property
    def alarm(self) -> bool:
        """Whether a reader has to be warned."""
        return self.verdict != NOT_CONTRADICTED

    @property
    def further(self) -> tuple[Reason, ...]:
        """Reasons that the sentence has no room for."""
        return self.reasons[SHOWN_REASONS:]


def assess_credibility(results: StudyResults, findings: Findings) -> Credibility:
    """The verdict on a study; every clause repeats figures of a section."""
    reasons = [*_chance(results, findings), *_external(results, findings), *_within(findings), *_probes(findings)]
    reasons += [*_left_out(findings), *_sources(findings), *_lungs(findings), *_leakage(results, findings)]
    reasons.sort(key=lambda reason: not reason.severe)
    if any(reason.severe for reason in reasons):
        verdict = NOT_SUPPORTED
    elif not _tested(findings):
        verdict, reasons = NOT_TESTED, [Reason(NOTHING_TESTED), *reasons]
    else:
        verdict = PARTLY_SUPPORTED if reasons else NOT_CONTRADICTED
    shown = [reason.text for reason in reasons[:SHOWN_REASONS]] or [_in_favour(findings)]
    return Credibility(verdict, tuple(reasons), f"{'; '.join(shown)}.")


def contradictions(findings: Sequence[ExternalFinding], strategy: str) -> list[ExternalFinding]:
    """One a source: of `strategy` where it contradicts, else of any. Covid19 against the rest, which is what the models
    would be used for, comes before the recall of a class, then the widest gap."""
    found = [finding for finding in findings if finding.contradicts]
    found = [finding for finding in found if finding.strategy == strategy] or found
    widest: dict[str, ExternalFinding] = {}
    for finding in sorted(found, key=_weight, reverse=True):
        widest.setdefault(finding.source, finding)
    return list(widest.values())


def confounding_warning(found: Association) -> str:
    """A warning that names the classes whose images all come from one source; empty where every class has several,
    and where there is only one source in the whole study, by which nothing can be told apart."""
    if found.sources < 2 or not found.single_source:
        return ""
    by_source: dict[str, list[str]] = {}
    for label, source in found.single_source.items():
        by_source.setdefault(source, []).append(label)
    parts = "; ".join(f"{', '.join(labels)} only from {source}" for source, labels in by_source.items())
    return f"{parts}. Where a class has a single source, recognising the source is enough to be counted right."


def source_predicts_class(findings: Findings) -> bool:
    """Whether knowing an image's source helps to tell its class."""
    association = findings.association
    strong = association.cramers_v is not None and association.cramers_v >= STRONG_ASSOCIATION
    return association.sources > 1 and (strong or bool(association.single_source))


def external_text(finding: ExternalFinding) -> str:
    """What happened on the images of an external source, beside cross-validation."""
    called = {
        "specificity": f"{finding.wrong} of the {finding.images} images of {finding.source} without {POSITIVE_CLASS} are "
        f"called {POSITIVE_CLASS}: specificity",
        "sensitivity": f"{finding.wrong} of the {finding.images} {POSITIVE_CLASS} images of {finding.source} are missed: "
        "sensitivity",
        "recall": f"{finding.wrong} of the {finding.images} {finding.label} images of {finding.source} are taken for "
        "another class: recall",
    }[finding.measure]
    return f"{called} {rate(finding.external)}, where cross-validation has {rate(finding.internal)}"


def _weight(finding: ExternalFinding) -> tuple[bool, float]:
    return finding.measure != "recall", _gap(finding)


def _gap(finding: ExternalFinding) -> float:
    return (finding.internal.value or 0) - (finding.external.value or 0)


def _chance(results: StudyResults, findings: Findings) -> Iterator[Reason]:
    chance, low = results.majority_accuracy, findings.accuracy.low
    if chance is not None and low is not None and low <= chance:
        yield Reason(
            f"the winner is not clearly better than always naming the most frequent class, {percent(chance)}, so that "
            "there is nothing that probes could explain",
            severe=True,
        )


def _external(results: StudyResults, findings: Findings) -> Iterator[Reason]:
    """Severe for the winner, whose figures stand at the top; of another strategy a doubt, under its name."""
    winner = results.decision.winner
    found = contradictions(findings.external, winner)
    for finding in found[:SHOWN_EXTERNAL]:
        severe = finding.strategy == winner
        whose = "" if severe else f"by {TITLES[finding.strategy].lower()}, not the winner, "
        yield Reason(f"{whose}{external_text(finding)}", severe)
    if further := found[SHOWN_EXTERNAL:]:
        names = joined([f.source for f in further])
        yield Reason(f"the figures do not hold on {names} either", further[0].strategy == winner)


def _within(findings: Findings) -> Iterator[Reason]:
    within = findings.within
    if within is not None and within.falls:
        yield Reason(
            f"on the {count(within.images, 'other image', 'other images')} of sources that have {POSITIVE_CLASS} too, "
            f"specificity is {rate(within.specificity)}, where images of the same classes from other sources have "
            f"{percent(within.elsewhere.value)}",
            severe=True,
        )


def _left_out(findings: Findings) -> Iterator[Reason]:
    """Severe, unless next to nothing of the class was left to learn from: then a doubt that says so."""
    found = [finding for finding in findings.left_out if finding.contradicts]
    for few in (False, True):
        alike = [finding for finding in found if finding.few_training_images == few]
        if alike:
            yield Reason(_left_out_text(max(alike, key=_gap), len(alike) - 1), severe=not few)


def _left_out_text(worst: ExternalFinding, further: int) -> str:
    pairs = count(further, "other pair", "other pairs")
    others = f", and {pairs} of class and source likewise" if further else ""
    little = f" (only {worst.training_images} from elsewhere to learn from)" if worst.few_training_images else ""
    return (
        f"trained without {worst.source}, a simple recipe recognises {percent(worst.external.value)} of its "
        f"{worst.images:,} {worst.label} images{little}, and {percent(worst.internal.value)} when trained with it{others}"
    )


def _probes(findings: Findings) -> Iterator[Reason]:
    found = [probe for probe in findings.probes if probe.shortcut]
    if found:
        found.sort(key=lambda probe: probe.accuracy.value or 0, reverse=True)
        reached = joined([_probe_text(probe) for probe in found])
        yield Reason(
            f"without the lungs 7-class accuracy is {reached}, by chance {percent(found[0].chance)}", severe=True
        )


def _probe_text(probe: ProbeFinding) -> str:
    control = "the winner" if probe.name == "metadata" else "the same recipe on whole images"
    title = f"{probe.title[:1].lower()}{probe.title[1:]}"
    return f"{rate(probe.accuracy)} by “{title}” ({control}: {percent(probe.control.value)})"


def _sources(findings: Findings) -> Iterator[Reason]:
    association = findings.association
    if association.sources < 2:
        if not findings.external:
            yield Reason(ONE_SOURCE)
        return
    if source_predicts_class(findings):
        yield Reason(_association_text(association))
        told = [probe for probe in findings.source_probes if _told(probe)]
        if told:
            yield Reason(_source_text(max(told, key=lambda probe: probe.accuracy.value or 0)))


def _association_text(association: Association) -> str:
    single = len(association.single_source)
    degree = "" if association.cramers_v is None else f"Cramér's V {association.cramers_v:.3f}"
    if not single:
        return f"class and source go together ({degree}; at 1, one follows from the other)"
    counted = f"{single} of {len(CLASSES)} classes {'come' if single > 1 else 'comes'} from a single source"
    return f"{counted} ({degree}; at 1, one follows from the other)" if degree else counted


def _told(probe: SourceFinding) -> bool:
    """At least half of what the largest source leaves over, and more than chance."""
    value, low = probe.accuracy.value, probe.accuracy.low
    return value is not None and value >= (probe.chance + 100) / 2 and (low is None or low > probe.chance)


def _source_text(probe: SourceFinding) -> str:
    return (
        f"the source is told from {PROBE_INPUTS.get(probe.probe, probe.probe)} for {rate(probe.accuracy)} of images (always the "
        f"largest source: {percent(probe.chance)})"
    )


def _lungs(findings: Findings) -> Iterator[Reason]:
    lungs = findings.lungs
    if lungs is not None and lungs.low:
        yield Reason(
            f"only {rate(lungs.share)} of the heatmaps lies in the lung field, which covers "
            f"{percent(lungs.field_share)} of the image (a weak sign by itself)"
        )


def _leakage(results: StudyResults, findings: Findings) -> Iterator[Reason]:
    if results.study.protocol != "paper":
        return  # grouped folds keep patients apart; what the paper's would add speaks against those, not against these
    found = findings.leakage
    if found is None or found.difference.value is None:
        yield Reason(MIXED)
    elif found.difference.excludes_zero and found.difference.value > 0:
        yield Reason(f"{MIXED}; they are {text(found.difference.value)} points above those of grouped folds")


def _tested(findings: Findings) -> bool:
    return bool(
        findings.probes
        or findings.source_probes
        or findings.external
        or findings.left_out
        or findings.lungs is not None
    )


def _in_favour(findings: Findings) -> str:
    """What was tried and found nothing; what had nothing to be compared with was not tried."""
    parts = []
    if probes := [probe for probe in findings.probes if probe.name != LUNGS_ONLY]:
        best = max(probes, key=lambda probe: probe.accuracy.value or 0)
        parts.append(f"no probe knows too much (the best, “{best.title}”, reaches {rate(best.accuracy)})")
    if external := [finding for finding in findings.external if _compared(finding)]:
        names = joined(sorted({finding.source for finding in external}))
        parts.append(f"on the images of {names} the figures do not fall clearly")
    if any(_compared(finding) for finding in findings.left_out):
        parts.append("no source left out of training is recognised clearly worse")
    if findings.lungs is not None:
        parts.append(f"{rate(findings.lungs.share)} of the heatmaps lies in the lung field")
    return joined(parts) or "an image's source hardly tells its class"


def _compared(finding: ExternalFinding) -> bool:
    return finding.external.value is not None and finding.internal.value is not None
