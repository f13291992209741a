import csv
import json

import pytest

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections import shortcuts
from cxr_platform.evaluation.sections.shortcuts import probe_sentence
from cxr_platform.evaluation.table import to_csv
from tests.evaluation.planted import predictions, report_inputs
from tests.evaluation.probed import probe_frame, source_frame, study, with_evidence


def probed(*, metadata: int = 110, without: int = 110, only: int = 180, synthetic: bool = False) -> ReportInputs:
    """How many of 200 images each probe has right; the whole image 180, the winner 190, chance is 100."""
    made = study(synthetic=synthetic)
    scored = made.predictions
    return with_evidence(
        made,
        metadata_probe=probe_frame(scored, metadata=metadata),
        pixel_probes=probe_frame(scored, whole_image=180, without_lungs=without, lungs_only=only),
        metadata_source_probe=source_frame(scored, "metadata", 195),
        pixel_source_probes=source_frame(scored, "whole-image", 150),
    )


def test_each_probe_is_measured_over_the_images_of_the_study_whatever_their_order() -> None:
    results = shortcuts.compute(probed())
    probes, sources = results.probes, results.sources
    assert [(p.name, p.accuracy.value, p.control.value, p.chance) for p in probes] == [
        ("metadata", 55.0, 95.0, 50.0),
        ("without-lungs", 55.0, 90.0, 50.0),
        ("lungs-only", 90.0, 90.0, 50.0),
    ]
    assert [(s.probe, s.accuracy.value, s.chance, s.sources) for s in sources] == [
        ("metadata", 97.5, 50.0, 2),
        ("whole-image", 75.0, 50.0, 2),
    ]


def test_nothing_is_called_a_shortcut_where_the_lungs_carry_it() -> None:
    made = probed()
    found = shortcuts.compute(made)
    assert not any(probe.shortcut for probe in found.probes)
    section = shortcuts.render(made, found)
    assert section.lead[0].startswith("No shortcut found")
    assert section.warnings == ()
    assert "the lung field carries 100.00\N{NO-BREAK SPACE}% of the lead over chance" in " ".join(section.lead)


@pytest.mark.parametrize("name", ["metadata", "without"])
def test_a_probe_that_keeps_most_of_the_lead_is_called_one_and_warned_of(name: str) -> None:
    made = probed(**{name: 170})
    found = shortcuts.compute(made)
    probes, sources = found.probes, found.sources
    assert [probe.name.startswith(name) for probe in probes] == [probe.shortcut for probe in probes]
    section = shortcuts.render(made, found)
    assert section.lead[0].startswith("Shortcut found")
    assert len(section.warnings) == 1
    assert "70.00" in section.warnings[0] or "85.00" in section.warnings[0]
    assert len(sources) == 2


def test_lungs_alone_are_never_a_shortcut() -> None:
    probes = shortcuts.compute(probed(only=199)).probes
    assert not probes[-1].shortcut


def test_the_table_has_winner_control_probes_and_chance_and_the_values_are_plain() -> None:
    made = probed(without=170)
    section = shortcuts.render(made, shortcuts.compute(made))
    rows = list(csv.reader(to_csv(section.tables[0]).splitlines()))[1:]
    assert [float(row[1]) for row in rows] == [95, 90, 55, 85, 90, 50]
    assert [row[-1] for row in rows[2:5]] == ["none found", "shortcut", "information in the lungs"]
    values = json.loads(json.dumps(dict(section.values)))
    assert values["probes"]["without-lungs"]["lead_kept"] == pytest.approx(87.5)
    assert values["sources"]["metadata"]["accuracy"]["value"] == 97.5


def test_the_picture_gives_its_figures_in_words_and_says_when_images_are_drawn() -> None:
    made = probed(synthetic=True)
    picture = shortcuts.render(made, shortcuts.compute(made)).pictures[0]
    assert picture.png.startswith(b"\x89PNG")
    assert picture.alt.startswith("Synthetic images.")
    assert "without lungs 55.00" in picture.alt
    assert "chance, 50.00" in picture.alt


def test_without_imagenet_the_facts_of_the_file_still_speak() -> None:
    made = study()
    reason = {"pixel_probes": "Expected ImageNet weights and found none."}
    made = with_evidence(made, reason, metadata_probe=probe_frame(made.predictions, metadata=170))
    found = shortcuts.compute(made)
    section = shortcuts.render(made, found)
    assert [probe.name for probe in found.probes] == ["metadata"]
    assert found.probes[0].shortcut
    assert "The probes of pixels are missing. Expected ImageNet weights and found none." in section.lead


def test_with_one_source_no_source_is_told() -> None:
    made = report_inputs(predictions(["east"] * 200, ["Covid19", "Normal"] * 100))
    scored = made.predictions
    made = with_evidence(
        made,
        metadata_probe=probe_frame(scored, metadata=150),
        metadata_source_probe=source_frame(scored, "metadata", 200).iloc[:0],
    )
    found = shortcuts.compute(made)
    assert found.sources == ()
    assert [table.name for table in shortcuts.render(made, found).tables] == ["shortcuts"]


def test_without_evidence_the_section_says_why() -> None:
    made = study()
    assert shortcuts.compute(made) == shortcuts.ShortcutResults()
    assert "cxr report --manifest" in shortcuts.render(made, shortcuts.ShortcutResults()).absent


def test_beside_a_control_no_better_than_chance_a_probe_says_nothing() -> None:
    sentence = probe_sentence("without-lungs", Interval(60.0), Interval(50.0), 50.0, shortcut=False)
    assert sentence.endswith("not better than chance, so that this says nothing.")
