import json

import numpy as np
import pandas as pd

from cxr_platform.domain.predictions import PROBABILITY_COLUMNS
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections import left_out
from cxr_platform.evaluation.table import to_csv
from cxr_platform.labels import CLASSES
from tests.evaluation.builders import probabilities
from tests.evaluation.planted import predictions, report_inputs
from tests.evaluation.probed import LABELS, SOURCES, probe_frame, study, with_evidence


def left(made: ReportInputs, recognised: dict[str, int], trained_on: int = 50) -> ReportInputs:
    """Return a study in which `recognised` of the 50 Normal images of each source are recognised without that source.

    The probe that knows all sources classifies 180 of the 200 images correctly.
    """
    scored = made.predictions
    frame = pd.DataFrame({"image_id": scored.image_id, "group_id": scored.group_id, "source": scored.source})
    frame["label"] = np.array(CLASSES)[scored.label]
    frame = frame[frame["label"] == "Normal"].assign(trained_on=trained_on)
    number = frame.groupby("source").cumcount()
    predicted = np.where(number < frame["source"].map(recognised), CLASSES.index("Normal"), 0)
    frame[list(PROBABILITY_COLUMNS)] = probabilities(predicted)
    probes = probe_frame(scored, whole_image=180)
    return with_evidence(made, left_out=frame.iloc[::-1], pixel_probes=probes)


def test_the_recall_without_a_source_is_compared_on_the_same_images() -> None:
    made = left(study(), {"east": 50, "west": 10})
    recalls = {f.source: f for f in left_out.compute(made)}
    assert (recalls["east"].external.value, recalls["east"].internal.value) == (100, 100)
    assert (recalls["west"].external.value, recalls["west"].internal.value) == (20, 80)
    assert (recalls["west"].images, recalls["west"].wrong, recalls["west"].label) == (50, 40, "Normal")
    assert not recalls["east"].contradicts
    assert recalls["west"].contradicts


def test_a_fall_gives_a_warning_with_the_number_of_training_images() -> None:
    made = left(study(), {"east": 50, "west": 10}, trained_on=7)
    section = left_out.render(made, left_out.compute(made))
    assert len(section.warnings) == 1
    assert section.warnings[0].startswith("Without west in training, 20.00")
    assert section.warnings[0].endswith("Only 7 images of Normal from other sources were left to train on.")
    assert "west,50,7,20.0000" in to_csv(section.tables[0])
    assert len(json.loads(json.dumps(dict(section.values)))["rates"]) == 2


def test_the_text_says_if_no_recall_falls() -> None:
    made = left(study(), {"east": 50, "west": 40})
    section = left_out.render(made, left_out.compute(made))
    assert section.warnings == ()
    assert section.lead[1] == "No recall falls so far that the two intervals do not overlap."


def test_classes_with_one_source_are_named_as_not_possible() -> None:
    sources = ["east" if label != "Normal" else source for label, source in zip(LABELS, SOURCES, strict=True)]
    made = left(report_inputs(predictions(sources, LABELS), synthetic=True), {"east": 50, "west": 40})
    section = left_out.render(made, left_out.compute(made))
    assert section.lead[-1] == "Not possible for classes with a single source: Covid19 (east), Pneumonia (east)."
    assert section.pictures[0].alt.startswith("Synthetic images.")
    assert "Normal without west, n = 50 80.00" in section.pictures[0].alt


def test_without_the_whole_image_probe_there_is_no_reference() -> None:
    made = left(study(), {"east": 50, "west": 10})
    made = with_evidence(made, left_out=made.evidence.parts["left_out"])
    assert all(f.internal.value is None and not f.contradicts for f in left_out.compute(made))


def test_if_it_was_not_possible_the_section_says_why() -> None:
    made = with_evidence(study(), {"left_out": "No class has two sources."})
    assert left_out.compute(made) == ()
    assert left_out.render(made, ()).absent == "No class has two sources."
