"""The feature atlas: the winner's features that separate a class best, the paper's candidates for biomarkers (§4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.formatting import joined, shortened
from cxr_platform.evaluation.pictures import Picture, mark, overlay_heatmap
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ManifestImages, ReportInputs
from cxr_platform.evaluation.sections.image_sheet import Panel, heat_of, sheet
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import CLASSES

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

NAME, TITLE = "atlas", "Feature atlas"
PART, IMAGES_PART = "atlas", "atlas_images"
COLUMNS = 4
TELLS_SOURCE = 0.8  # area from which a feature is said to tell the source as well

WHAT_IT_IS_NOT = (
    "None of these is a biomarker. A biomarker has a significance that was confirmed in patients; these are numbers "
    "that helped one network to sort the images of this study. They need not mean anything in biology, need not exist "
    "in a network trained on other images or in the images of another hospital, and may stand for the source of an image."
)
HOW_CHOSEN = (
    "Each network's {count:,} features were ranked on one half of the patients of its own test fold, and the best were "
    "measured on the other half, so that the choice does not flatter them. The network was trained on neither half."
)
HOW_MATCHED = (
    "Features of two networks count as the same where they correlate with |r| ≥ 0.7 over the same images and separate "
    "the class equally well (areas within 0.05)."
)


@dataclass(frozen=True)
class Feature:
    """The best feature of a class in one fold; `auc_source` is the area for `source`, `None` with one source only."""

    label: str
    fold: int
    number: int
    auc_chosen: float
    auc_held: float
    matched: int
    folds: int
    source: str | None
    auc_source: float | None


def find(inputs: ReportInputs) -> tuple[Feature, ...]:
    """For each class the features that were best on the half where they were chosen: as many as a fold has, over all
    folds."""
    frame = inputs.evidence.parts.get(PART)
    if frame is None:
        return ()
    ordered = frame.sort_values("auc_chosen", ascending=False, kind="stable")
    a_class = int(frame.groupby(["fold", "label"]).size().max()) if len(frame) else 0
    best = [ordered[ordered["label"] == label].head(a_class) for label in CLASSES]
    return tuple(_feature(row) for part in best for row in part.to_dict("records"))  # type: ignore[arg-type]


def section(inputs: ReportInputs, found: tuple[Feature, ...]) -> Section:
    """The features with their images, and what they are not; absent where they were not computed."""
    if not found:
        return Section(NAME, TITLE, absent=_why_absent(inputs))
    winner = TITLES[inputs.results.decision.winner]
    count = inputs.study.profile.model.dense_units
    return Section(
        NAME,
        TITLE,
        lead=(
            f"The features that {winner} computes last, before the classes, and that separate a class best.",
            WHAT_IT_IS_NOT,
            HOW_CHOSEN.format(count=count),
            *_stability(found),
            *_sources(found),
        ),
        pictures=_pictures(inputs, found),
        tables=(_table(found, inputs.synthetic),),
        values={"features": [_value(feature) for feature in found]},
    )


def _feature(row: dict[str, object]) -> Feature:
    source = row["source"] if isinstance(row["source"], str) else None
    return Feature(
        label=str(row["label"]),
        fold=int(str(row["fold"])),
        number=int(str(row["feature"])),
        auc_chosen=float(str(row["auc_chosen"])),
        auc_held=float(str(row["auc_held"])),
        matched=int(str(row["matched_folds"])),
        folds=int(str(row["folds"])),
        source=source,
        auc_source=float(str(row["auc_source"])) if source else None,
    )


def _why_absent(inputs: ReportInputs) -> str:
    if PART in inputs.evidence.parts:
        return "No class has images enough in each half of a fold for its features to be ranked."
    return inputs.evidence.why_absent(PART)


def _stability(found: tuple[Feature, ...]) -> list[str]:
    folds = found[0].folds
    everywhere = sum(f.matched == f.folds for f in found)
    alone = sum(f.matched == 1 for f in found)
    return [
        f"{HOW_MATCHED} Of the {len(found)} below, {everywhere} have their like in all {folds} networks and {alone} in "
        "no other."
    ]


def _sources(found: tuple[Feature, ...]) -> list[str]:
    known = [f for f in found if f.auc_source is not None]
    if not known:
        return []
    telling = [f for f in known if (f.auc_source or 0) >= TELLS_SOURCE]
    least = f"an area of {TELLS_SOURCE:.1f} or more"
    if not telling:
        return [f"None of them tells a source with {least}."]
    as_well = [f for f in telling if (f.auc_source or 0) >= f.auc_held]
    classes = joined([label for label in CLASSES if any(f.label == label for f in telling)])
    return [
        f"{len(telling)} of them tell a source with {least} ({classes}), {len(as_well)} at least as well as their "
        "class: such a feature may be of the source and not of the disease."
    ]


def _table(found: tuple[Feature, ...], synthetic: bool) -> Table:
    several = any(f.source for f in found)
    rows = []
    for f in found:
        values = (_area(f.auc_chosen), _area(f.auc_held), f"{f.matched} of {f.folds}")
        source = (f.source or "", _area(f.auc_source)) if several else ()
        rows.append(Row((f.label, f"{f.number} of fold {f.fold + 1}"), (*values, *source)))
    of_source = ("highest for the source", "its AUC") if several else ()
    columns = ("AUC where chosen", "AUC on the other half", "networks that have it", *of_source)
    note = "AUC: area under the ROC curve, 0.5 is chance. The other half is the figure to believe."
    return Table("atlas", "Features that separate a class", ("Class", "Feature"), columns, tuple(rows), note, synthetic)


def _area(value: float | None) -> Interval | None:
    return None if value is None else Interval(value, ratio=True)


def _pictures(inputs: ReportInputs, found: tuple[Feature, ...]) -> tuple[Picture, ...]:
    """For the first feature of each class the images of the other half that it answers most strongly."""
    frame = inputs.evidence.parts.get(IMAGES_PART)
    if inputs.images is None or frame is None:
        return ()
    first = {f.label: f for f in reversed(found)}
    shown = [first[label] for label in CLASSES if label in first]
    rows = [_rows(frame, feature) for feature in shown]
    image_ids = [image_id for part in rows for image_id in part["image_id"]]
    images = dict(zip(image_ids, inputs.images.pixels(image_ids), strict=True))  # in one go: it reads the manifest
    panels = [panel for f, part in zip(shown, rows, strict=True) for panel in _panels(inputs.images, images, f, part)]
    if not panels:
        return ()
    told = "; ".join(f"{f.label}: AUC {f.auc_held:.3f}, in {f.matched} of {f.folds} networks" for f in shown)
    return (
        Picture(
            "atlas",
            "For each class its best feature: the images of the other half of the patients that it answers most "
            "strongly, brightest where the feature comes from. Under the feature, the class and source of each image.",
            f"{mark(inputs.synthetic)}Images with heatmaps of a feature. {told}.",
            sheet(panels, COLUMNS, synthetic=inputs.synthetic),
        ),
    )


def _rows(frame: "pd.DataFrame", feature: Feature) -> "pd.DataFrame":
    mine = frame[(frame["fold"] == feature.fold) & (frame["feature"] == feature.number)]
    return mine.sort_values("rank").head(COLUMNS)


def _panels(
    facts: ManifestImages, images: "Mapping[str, np.ndarray]", feature: Feature, rows: "pd.DataFrame"
) -> list[Panel]:
    """A row of the picture; empty places where there are fewer images."""
    import numpy as np

    panels = [
        Panel(
            _lines(feature, place, facts.facts.loc[row["image_id"]]),
            overlay_heatmap(images[row["image_id"]], heat_of(row)),
        )
        for place, (_, row) in enumerate(rows.iterrows())
    ]
    blank = [Panel(("",), np.ones_like(panel.image)) for panel in panels[:1]]
    return panels + blank * (COLUMNS - len(panels))


def _lines(feature: Feature, rank: int, fact: "pd.Series[Any]") -> tuple[str, ...]:
    head = f"For {feature.label}:" if rank == 0 else ""
    source = str(fact["source"])
    return head, str(fact["label"]), shortened(source)


def _value(feature: Feature) -> dict[str, object]:
    return {
        "label": feature.label,
        "fold": feature.fold,
        "feature": feature.number,
        "auc_chosen": feature.auc_chosen,
        "auc_held": feature.auc_held,
        "matched_folds": feature.matched,
        "source": feature.source,
        "auc_source": feature.auc_source,
    }
