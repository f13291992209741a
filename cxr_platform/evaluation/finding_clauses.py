"""Clauses and sentences about single findings, which the verdict, the sections and the study card have in common."""

from collections.abc import Sequence
from typing import TypeVar

from cxr_platform.evaluation.findings import (
    Association,
    ExternalFinding,
    ExternalPair,
    HospitalPair,
    OutsideFinding,
    ProbeFinding,
    RankedPair,
    WithinSources,
)
from cxr_platform.evaluation.formatting import count, joined, percent, rate, text
from cxr_platform.labels import CLASSES, POSITIVE_CLASS

Ranked = TypeVar("Ranked", bound=RankedPair)


def confounding_warning(association: Association) -> str:
    """Return a warning that names the classes with a single source; empty without such classes or with one source."""
    if association.sources < 2 or not association.single_source:
        return ""
    by_source: dict[str, list[str]] = {}
    for label, source in association.single_source.items():
        by_source.setdefault(source, []).append(label)
    parts = "; ".join(f"{', '.join(labels)} only from {source}" for source, labels in by_source.items())
    return f"{parts}. For a class with a single source, recognising the source is enough to be counted as correct."


def external_text(finding: ExternalFinding) -> str:
    """Return a clause with the result on an external source beside cross-validation."""
    errors = {
        "specificity": f"{finding.wrong} of the {finding.images} images of {finding.source} without {POSITIVE_CLASS} "
        f"are called {POSITIVE_CLASS}: specificity",
        "sensitivity": f"{finding.wrong} of the {finding.images} {POSITIVE_CLASS} images of {finding.source} are missed"
        ": sensitivity",
        "recall": f"{finding.wrong} of the {finding.images} {finding.label} images of {finding.source} are given "
        "another class: recall",
    }[finding.measure]
    return f"{errors} {rate(finding.external)}, in cross-validation {rate(finding.internal)}"


def outside_text(finding: OutsideFinding) -> str:
    """Return a clause with how many images outside the seven classes are called Covid19, beside cross-validation."""
    stated = finding.finding if finding.finding not in ("", "not stated", finding.source) else ""
    images = f"{count(finding.images, 'image', 'images')} of {finding.source}"
    of_which = f"{stated}, none of the seven classes" if stated else "none of the seven classes"
    return (
        f"{finding.called:,} of the {images} ({of_which}) are called {POSITIVE_CLASS}: {rate(finding.share)}, in "
        f"cross-validation {rate(finding.internal)} of the images without {POSITIVE_CLASS}"
    )


def within_text(within: WithinSources) -> str:
    """Return a clause with the figures of a class within its sources."""
    return (
        f"among the {count(within.others, 'other image', 'other images')} of the sources that have {within.label} "
        f"({joined(within.sources)}), the AUC of {within.label} is {text(within.auc)} and its specificity "
        f"{rate(within.specificity)}"
    )


def compared_text(within: WithinSources) -> str:
    """Return a clause with the figures beside those of other origins; empty if they have no images of these classes."""
    if not within.compared:
        return ""
    own = ""
    if within.compared < within.others:
        own = (
            f"{text(within.auc_compared)} and {rate(within.specificity_compared)} among the {within.compared:,} of "
            "classes that other origins have too, "
        )
    return (
        f"{own}and {text(within.auc_elsewhere)} and {rate(within.specificity_elsewhere)} against images of "
        "the same classes from other origins"
    )


def worst_pair(pairs: Sequence[Ranked]) -> Ranked:
    """Return the pair with the lowest AUC, of those with enough images for a conclusion if there are any."""
    large = [pair for pair in pairs if not pair.small]
    return min(large or pairs, key=lambda pair: 1.0 if pair.auc.value is None else pair.auc.value)


def pair_text(pair: HospitalPair) -> str:
    """Return a clause with the AUC of a pair of origins."""
    missing = "it" if pair.positive == pair.negative else pair.left_out
    return (
        f"{POSITIVE_CLASS} of {pair.positive} against other images of {pair.negative}, trained without {missing}: AUC "
        f"{text(pair.auc)}"
    )


def external_pair_text(pair: ExternalPair) -> str:
    """Return a clause with the AUC of a pair of external sources."""
    return f"{POSITIVE_CLASS} of {pair.positive} against {pair.finding} of {pair.negative}: AUC {text(pair.auc)}"


def probe_text(probe: ProbeFinding) -> str:
    """Return a clause with the accuracy of a probe beside its control."""
    control = "the winner" if probe.name == "metadata" else "the same recipe on whole images"
    title = f"{probe.title[:1].lower()}{probe.title[1:]}"
    return f"{rate(probe.accuracy)} for “{title}” ({control}: {percent(probe.control.value)})"


def association_text(association: Association) -> str:
    """Return a clause on how far the source gives the class away."""
    single = len(association.single_source)
    v = association.cramers_v
    degree = "" if v is None else f" (Cramér's V {v:.3f}; 1 means that one determines the other)"
    if not single:
        return f"class and source are associated{degree}"
    return f"{single} of {len(CLASSES)} classes {'come' if single > 1 else 'comes'} from a single source{degree}"
