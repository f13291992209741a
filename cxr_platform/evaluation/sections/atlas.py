"""Feature atlas: the winner's features that best separate a class, the paper's candidates for biomarkers (§4)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_platform.domain.interval import Interval
from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.formatting import joined, shortened
from cxr_platform.evaluation.pictures import Picture, mark, overlay_heatmap
from cxr_platform.evaluation.report_contents import Section
from cxr_platform.evaluation.report_inputs import ManifestImages, ReportInputs
from cxr_platform.evaluation.sections.image_sheet import Panel, heatmap_of, image_sheet
from cxr_platform.evaluation.sections.shortcuts import sampled_sentence
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import CLASSES

NAME, TITLE = "atlas", "Feature atlas"
PART, IMAGES_PART = "atlas", "atlas_images"
COLUMNS = 4
SOURCE_AUC = 0.8
"""AUC from which a feature is said to separate a source as well."""

LIMITS = (
    "None of these is a biomarker. The significance of a biomarker was confirmed in patients; these are numbers that "
    "helped one network to sort the images of this study. They may mean nothing in biology, may not exist in a network "
    "trained on other images or in the images of another hospital, and may represent the source of an image."
)
SELECTION = (
    "Each network's {count:,} features were ranked on one half of the patients of its own test fold, and the best were "
    "measured on the other half, so that the selection does not inflate their figures. The network was trained on "
    "neither half."
)
MATCHING = (
    "Features of two networks count as the same if they correlate with |r| ≥ 0.7 over the same images and separate the "
    "class equally well (AUC within 0.05)."
)


@dataclass(frozen=True)
class Feature:
    """One of the best features of a class in one fold.

    `auc_chosen` is the AUC on the half of the patients on which it was chosen, `auc_held` that on the other half;
    `matched_folds` of `folds` networks have it. `auc_source` is the AUC for `source`, `None` with one source only.
    """

    label: str
    fold: int
    feature: int
    auc_chosen: float
    auc_held: float
    matched_folds: int
    folds: int
    source: str | None
    auc_source: float | None


def compute(inputs: ReportInputs) -> tuple[Feature, ...]:
    """Return for each class the features that were best where they were chosen: over all folds, as many as one has."""
    frame = inputs.evidence.parts.get(PART)
    if frame is None or frame.empty:
        return ()
    ordered = frame.sort_values("auc_chosen", ascending=False, kind="stable")
    per_class = int(frame.groupby(["fold", "label"]).size().max())
    best = pd.concat([ordered[ordered["label"] == label].head(per_class) for label in CLASSES])
    rows: list[dict[str, Any]] = best.to_dict("records")  # type: ignore[assignment]
    return tuple(
        Feature(
            label=row["label"],
            fold=int(row["fold"]),
            feature=int(row["feature"]),
            auc_chosen=float(row["auc_chosen"]),
            auc_held=float(row["auc_held"]),
            matched_folds=int(row["matched_folds"]),
            folds=int(row["folds"]),
            source=row["source"] if isinstance(row["source"], str) else None,
            auc_source=float(row["auc_source"]) if isinstance(row["source"], str) else None,
        )
        for row in rows
    )


def render(inputs: ReportInputs, features: Sequence[Feature]) -> Section:
    """Show the features with their images, and what they are not; absent if they were not computed."""
    if not features:
        why = inputs.evidence.why_absent(PART)
        if PART in inputs.evidence.parts:
            why = "No class has enough images in each half of a fold for its features to be ranked."
        return Section(NAME, TITLE, absent=why)
    winner = TITLES[inputs.results.decision.winner]
    count = inputs.study.profile.model.dense_units
    return Section(
        NAME,
        TITLE,
        lead=(
            f"Shown are the features of {winner}, from the last layer before the classes, that separate a class best.",
            LIMITS,
            SELECTION.format(count=count),
            *sampled_sentence(inputs),
            _matching_sentence(features),
            *_source_sentence(features),
        ),
        pictures=_pictures(inputs, features),
        tables=(_table(features, inputs.synthetic),),
        values={"features": [{k: v for k, v in asdict(f).items() if k != "folds"} for f in features]},
    )


def _matching_sentence(features: Sequence[Feature]) -> str:
    folds = features[0].folds
    everywhere = sum(f.matched_folds == f.folds for f in features)
    alone = sum(f.matched_folds == 1 for f in features)
    return (
        f"{MATCHING} Of the {len(features)} features below, {everywhere} occur in all {folds} networks and {alone} in "
        "no other network."
    )


def _source_sentence(features: Sequence[Feature]) -> list[str]:
    if all(f.auc_source is None for f in features):
        return []
    of_source = [f for f in features if (f.auc_source or 0) >= SOURCE_AUC]
    least = f"an AUC of {SOURCE_AUC:.1f} or more"
    if not of_source:
        return [f"None of them separates a source with {least}."]
    as_well = [f for f in of_source if (f.auc_source or 0) >= f.auc_held]
    classes = joined([label for label in CLASSES if any(f.label == label for f in of_source)])
    return [
        f"{len(of_source)} of them separate a source with {least} ({classes}), {len(as_well)} at least as well as "
        "their class: such a feature may represent the source and not the disease."
    ]


def _table(features: Sequence[Feature], synthetic: bool) -> Table:
    def area(value: float | None) -> Interval | None:
        return None if value is None else Interval(value, ratio=True)

    several = any(f.source for f in features)
    rows = []
    for f in features:
        values = (area(f.auc_chosen), area(f.auc_held), f"{f.matched_folds} of {f.folds}")
        of_source = (f.source or "", area(f.auc_source)) if several else ()
        rows.append(Row((f.label, f"{f.feature} of fold {f.fold + 1}"), (*values, *of_source)))
    source_columns = ("highest for the source", "AUC for that source") if several else ()
    columns = ("AUC where chosen", "AUC on the other half", "networks that have it", *source_columns)
    note = "AUC: area under the ROC curve; 0.5 is chance. Only that on the other half is not inflated by the selection."
    return Table("atlas", "Features that separate a class", ("Class", "Feature"), columns, tuple(rows), note, synthetic)


def _pictures(inputs: ReportInputs, features: Sequence[Feature]) -> tuple[Picture, ...]:
    """Return a sheet with the first feature of each class on the images of the other half that activate it most."""
    frame = inputs.evidence.parts.get(IMAGES_PART)
    if inputs.images is None or frame is None:
        return ()
    first = {f.label: f for f in reversed(features)}
    shown = [first[label] for label in CLASSES if label in first]
    rows = []
    for f in shown:
        of_feature = frame[(frame["fold"] == f.fold) & (frame["feature"] == f.feature)]
        rows.append(of_feature.sort_values("rank").head(COLUMNS))
    image_ids = [image_id for part in rows for image_id in part["image_id"]]
    pixels = dict(zip(image_ids, inputs.images.pixels(image_ids), strict=True))  # one call: it reads the manifest
    panels = [
        panel for f, part in zip(shown, rows, strict=True) for panel in _panels(inputs.images, pixels, f.label, part)
    ]
    if not panels:
        return ()
    caption = (
        "The best feature of each class, on the images of the other half of the patients that activate it most; "
        "brightest where the activation comes from. Above each image, its class and source."
    )
    listed = "; ".join(f"{f.label}: AUC {f.auc_held:.3f}, in {f.matched_folds} of {f.folds} networks" for f in shown)
    alt = f"{mark(inputs.synthetic)}Images with heatmaps of a feature. {listed}."
    return (Picture("atlas", caption, alt, image_sheet(panels, COLUMNS, synthetic=inputs.synthetic)),)


def _panels(
    images: ManifestImages, pixels: Mapping[str, NDArray[np.uint8]], label: str, rows: pd.DataFrame
) -> list[Panel]:
    """Return one row of the sheet, filled up with blank panels."""
    panels: list[Panel] = []
    for _, row in rows.iterrows():
        fact, head = images.facts.loc[row["image_id"]], "" if panels else f"For {label}:"
        lines = (head, str(fact["label"]), shortened(str(fact["source"])))
        panels.append(Panel(lines, overlay_heatmap(pixels[row["image_id"]], heatmap_of(row))))
    blank = [Panel(("",), np.ones_like(panel.image)) for panel in panels[:1]]
    return panels + blank * (COLUMNS - len(panels))
