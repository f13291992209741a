"""What to do next: derived from what speaks against a study, each step with the command that does it."""

from collections.abc import Iterator

from cxr_platform.evaluation.credibility import Belief
from cxr_platform.evaluation.findings import Findings
from cxr_platform.evaluation.prose import joined
from cxr_platform.evaluation.study_results import Outcome

SHOWN_STEPS = 3
PAPER_FOLDS = 10


def next_steps(outcome: Outcome, findings: Findings, belief: Belief) -> list[str]:
    """Steps as clauses, the most urgent first, commands in backticks; never empty."""
    return [
        *_real_images(outcome),
        *_second_source(findings),
        *_compute(outcome, findings, belief),
        *_images_from_elsewhere(outcome, findings),
        *_other_protocol(outcome, findings),
        *_more_folds(outcome, findings),
        "look through the failures and the heatmaps with a radiologist",
    ]


def in_words(steps: list[str]) -> tuple[str, str]:
    """The first step as a sentence, and some further ones as another; the second is empty where there is one step."""
    first, *others = steps[:SHOWN_STEPS]
    return f"{first[:1].upper()}{first[1:]}.", f"Then {'; then '.join(others)}." if others else ""


def _real_images(outcome: Outcome) -> Iterator[str]:
    if outcome.study.manifest.synthetic:
        yield "run the same on real images: `make cv-all DATA=FOLDER`"


def _second_source(findings: Findings) -> Iterator[str]:
    single = list(findings.association.single_source)
    if findings.association.sources > 1 and single:
        yield f"get images of {joined(single)} from a second source and run again: `make cv-all DATA=FOLDER`"
    elif any(finding.contradicts for finding in (*findings.external, *findings.left_out)):
        yield "train on images of more sources: `make cv-all DATA=FOLDER`"


def _compute(outcome: Outcome, findings: Findings, belief: Belief) -> Iterator[str]:
    if not findings.probes:
        yield f"compute the probes for shortcuts: `cxr report --study runs/{outcome.study.name} --manifest FOLDER`"
    elif belief.alarm:
        yield "give no accuracy without the probes beside it"


def _images_from_elsewhere(outcome: Outcome, findings: Findings) -> Iterator[str]:
    if not findings.external:
        yield f"score images from elsewhere: `cxr evaluate --study runs/{outcome.study.name} --data FOLDER`"


def _other_protocol(outcome: Outcome, findings: Findings) -> Iterator[str]:
    if findings.leakage is None:
        yield f"see what leakage adds: `make cv-all {_data(outcome)}PROTOCOL=both`"


def _more_folds(outcome: Outcome, findings: Findings) -> Iterator[str]:
    if outcome.study.folds < PAPER_FOLDS:
        apart = all(comparison.told_apart for comparison in findings.comparisons)
        reason = "repeat it as the paper did" if apart else "tell the strategies apart with ten folds and larger images"
        yield f"{reason}: `make cv-all {_data(outcome)}PROFILE=paper`"


def _data(outcome: Outcome) -> str:
    return "" if outcome.study.manifest.synthetic else "DATA=FOLDER "
