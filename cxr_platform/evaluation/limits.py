"""What the results of a study do not show, in sentences: the limits on the first page of the report."""

from collections.abc import Iterator, Sequence

from cxr_platform.domain.strategies import PAPER_WINNER, TITLES
from cxr_platform.evaluation.findings import UNDERTRAINED, Findings
from cxr_platform.evaluation.formatting import bounds, joined, percent, points, text, titles
from cxr_platform.evaluation.paper import paper_metrics, paper_tables
from cxr_platform.evaluation.study_results import StudyResults
from cxr_platform.labels import PAPER_COUNTS

PAPER_PIXELS = 200  # §2.1.4
INTERVALS = (
    "The 95 % intervals cover the choice of patients from the same sources. They do not cover the variation between "
    "training runs, or the images of other hospitals."
)
SHOWN_SOURCES = 6
LEAKAGE = "Images of one patient may be in several folds, which makes the results too high."


def study_limits(results: StudyResults, findings: Findings) -> Iterator[str]:
    """Yield a sentence or two on each limit."""
    yield from _undertrained(findings)
    yield INTERVALS
    yield from _unknown_patients(results)
    yield from _leakage(results, findings)
    yield from _calibration(findings)
    yield _beside_paper(results)
    yield from _unlike_paper(results)


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
    return [f"Under the paper's protocol {subject} {points(gap.value).lower()} here ({bounds(gap)}): {reason}."]


def _undertrained(findings: Findings) -> Sequence[str]:
    if not findings.undertrained:
        return []
    return [
        f"Undertrained: the training loss of {joined(titles(findings.undertrained))} still fell by more than "
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
