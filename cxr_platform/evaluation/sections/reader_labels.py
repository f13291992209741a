"""Labels by readers: how far the collections' labels agree with them, and the winner's figures under both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.formatting import count, joined, rate, text
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.statistics.bootstrap import study_seed
from cxr_platform.evaluation.statistics.external import interval_values
from cxr_platform.evaluation.statistics.reader_labels import NONE_OF_THEM, Agreement, RatePair, ReaderLabels
from cxr_platform.evaluation.table import Row, Table

NAME, TITLE = "reader_labels", "Labels by readers"
FEW_AGREE = 0.4
"""Cohen's kappa below which the agreement is poor to fair (Landis & Koch 1977, Biometrics 33:159)."""

WITHOUT_MANIFEST = "The manifest, which has the readers' labels, was not given."
WITHOUT_LABELS = (
    "No source of the study names a second table of labels, by readers, of classes that the study has "
    "(`reader_labels` in sources.toml)."
)
METHOD = (
    "Readers distinguish the classes that their table gives; images with another label are not compared. Under the "
    f"readers' labels an image with {NONE_OF_THEM} has no class and is left out. Kappa depends on the mix of classes, "
    "which was drawn for this study, and noise takes the readers' label as the true one."
)


@dataclass(frozen=True)
class ReaderResults:
    """Agreement per source, over all sources if there are several, last; and the winner's rates under both labels.

    `undecided` images, of which equally many readers state different things, are in none of them.
    """

    winner: str
    agreements: tuple[Agreement, ...]
    rates: tuple[RatePair, ...]
    undecided: int


def compute(inputs: ReportInputs) -> ReaderResults | None:
    """Return agreement and rates; `None` without readers' labels of images of the study."""
    if inputs.images is None or "reader_finding" not in inputs.images.facts:
        return None
    labels = ReaderLabels(inputs.predictions, inputs.images.facts, study_seed(inputs.study))
    if not labels.sources:
        return None
    winner = inputs.results.decision.winner
    agreements = [labels.agreement(source) for source in labels.sources]
    if len(agreements) > 1:
        agreements.append(labels.agreement())
    return ReaderResults(winner, tuple(agreements), tuple(labels.rates(winner)), int(labels.undecided.sum()))


def render(inputs: ReportInputs, results: ReaderResults | None) -> Section:
    """Show agreement, label noise per class and the winner's rates under both labels."""
    if results is None:
        return Section(NAME, TITLE, absent=WITHOUT_MANIFEST if inputs.images is None else WITHOUT_LABELS)
    whole, undecided = results.agreements[-1], []
    if results.undecided:
        images = count(results.undecided, "image is", "images are")
        undecided = [f"{images} not compared, because equally many readers state different things."]
    return Section(
        NAME,
        TITLE,
        lead=(_agreement_sentence(whole), _noise_sentence(whole), *undecided, METHOD),
        tables=(
            _noise_table(results.agreements, inputs.synthetic),
            _rate_table(results, inputs.synthetic),
        ),
        folded=(_count_table(results.agreements, inputs.synthetic),),
        warnings=(_warning(whole),) if whole.kappa.value is not None and whole.kappa.value < FEW_AGREE else (),
        values=_values(results),
    )


def _agreement_sentence(whole: Agreement) -> str:
    return (
        f"The label of the collection is that of the readers for {rate(whole.agreement)} of {whole.images:,} images "
        f"with both: Cohen's kappa {text(whole.kappa)}, where 1 is full agreement and 0 that of chance."
    )


def _noise_sentence(whole: Agreement) -> str:
    parts = [f"{n.label} {rate(n.rate)} of {n.images:,} images" for n in whole.noise]
    return f"Estimated noise of the labels (the readers call the image otherwise): {joined(parts)}."


def _warning(whole: Agreement) -> str:
    return (
        f"The labels agree hardly better than by chance (kappa {text(whole.kappa)}): figures of these classes measure "
        "the collection's labels as much as the network."
    )


def _noise_table(agreements: Sequence[Agreement], synthetic: bool) -> Table:
    rows = [
        Row((a.source, noise.label), (noise.images, noise.rate, a.kappa if number == 0 else None))
        for a in agreements
        for number, noise in enumerate(a.noise)
    ]
    columns = ("images", "called otherwise by readers (%)", "Cohen's kappa")
    note = "Kappa is over all classes of the source. Intervals: 95 %, by bootstrap over patients."
    return Table("reader-noise", "Label noise by readers", ("Source", "Label"), columns, tuple(rows), note, synthetic)


def _rate_table(results: ReaderResults, synthetic: bool) -> Table:
    rows = [
        Row((pair.name,), (pair.images[0], pair.collection, pair.images[1], pair.readers)) for pair in results.rates
    ]
    columns = ("images", "labels of the collections (%)", "images, readers", "labels of the readers (%)")
    title = f"{TITLES[results.winner]} under both labels"
    note = "All images: those that no reader has labelled keep the label of their collection."
    return Table("reader-rates", title, ("Rate",), columns, tuple(rows), note, synthetic)


def _count_table(agreements: Sequence[Agreement], synthetic: bool) -> Table:
    rows = [Row((a.source, *pair), (images,)) for a in agreements for pair, images in a.counts.items()]
    headers = ("Source", "Label of the collection", "Label of the readers")
    return Table("reader-counts", "Images by both labels", headers, ("images",), tuple(rows), "", synthetic)


def _values(results: ReaderResults) -> dict[str, Any]:
    return {
        "winner": results.winner,
        "undecided": results.undecided,
        "agreement": [
            {
                "source": a.source,
                "images": a.images,
                "agreement": interval_values(a.agreement),
                "kappa": interval_values(a.kappa),
                "noise": {n.label: {"images": n.images, "rate": interval_values(n.rate)} for n in a.noise},
            }
            for a in results.agreements
        ],
        "rates": [
            {
                "name": pair.name,
                "images": list(pair.images),
                "collection": interval_values(pair.collection),
                "readers": interval_values(pair.readers),
            }
            for pair in results.rates
        ],
    }
