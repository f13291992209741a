"""What the gate of `robust` leaves indeterminate, as a table of the section with all measures."""

import numpy as np

from cxr_platform.domain.strategies import TITLES
from cxr_platform.evaluation.predictions import POSITIVE, Predictions
from cxr_platform.evaluation.statistics.bootstrap import Bootstrap
from cxr_platform.evaluation.table import Row, Table
from cxr_platform.labels import POSITIVE_CLASS

NOTE = (
    "Percent of images, out of their folds, with the 95 % confidence interval by bootstrap over patients. "
    f"Indeterminate: the head of all classes names {POSITIVE_CLASS}, and the head that was fitted within the origins "
    f"that have {POSITIVE_CLASS} and other images does not. The other tables count such an image as the class that has "
    "the next probability."
)


def gate_table(predictions: Predictions, bootstrap: Bootstrap, synthetic: bool) -> Table | None:
    """Return how often a gate gives each answer, for images with Covid19 and others; `None` without a gate."""
    rows = []
    for strategy, indeterminate in predictions.indeterminate.items():
        named = predictions.probability[strategy].argmax(axis=1) == POSITIVE
        answers = (named & ~indeterminate, indeterminate, ~named & ~indeterminate)
        for label, among in ((POSITIVE_CLASS, predictions.label == POSITIVE), ("other", predictions.label != POSITIVE)):
            rates = tuple(bootstrap.rate(np.asarray(answer), among) for answer in answers)
            rows.append(Row((TITLES[strategy], label), rates))
    if not rows:
        return None
    columns = (f"{POSITIVE_CLASS} by both heads", "indeterminate", "another class")
    return Table("gate", "Answers behind the gate", ("Strategy", "Images"), columns, tuple(rows), NOTE, synthetic)
