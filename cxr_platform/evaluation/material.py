"""What the report is made from: stored predictions, the manifest, and what was computed from the study's models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxr_platform.evaluation.evidence import Evidence
from cxr_platform.evaluation.outcome import Outcome
from cxr_platform.evaluation.predictions import Predictions
from cxr_platform.evaluation.study import Study

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Films:
    """The manifest's films. `facts` has its columns without pixels, indexed by image_id, external films included.

    `pixels(image_ids)` gives uint8 (n, S, S) in the order asked for.
    """

    facts: "pd.DataFrame"
    pixels: "Callable[[Sequence[str]], np.ndarray]"


@dataclass(frozen=True, eq=False)
class Material:
    """Everything that sections are computed from; `None` for what there is not, with which each section must live.

    `other` are the predictions of the same manifest under the other protocol.
    """

    study: Study
    predictions: Predictions
    outcome: Outcome
    films: Films | None
    evidence: Evidence
    other: tuple[Study, Predictions] | None = None

    @property
    def synthetic(self) -> bool:
        """Whether films of the study were drawn."""
        return self.study.manifest.synthetic
