import csv
import json
from dataclasses import replace

import pytest

from cxr_platform.domain.interval import Interval
from cxr_platform.evaluation.report_inputs import ReportInputs
from cxr_platform.evaluation.sections import shortcuts
from cxr_platform.evaluation.sections.shortcuts import probe_sentence
from cxr_platform.evaluation.table import to_csv
from tests.evaluation.planted import predictions, report_inputs
from tests.evaluation.probed import probe_frame, source_frame, study, with_evidence


def probed(*, metadata: int = 110, without: int = 110, only: int = 180, synthetic: bool = False) -> ReportInputs:
    """Return a study of 200 images with the number that each probe gets right; the winner has 190."""
    made = study(synthetic=synthetic)
    scored = made.predictions
    return with_evidence(
        made,
        metadata_probe=probe_frame(scored, metadata=metadata),
        pixel_probes=probe_frame(scored, whole_image=180, without_lungs=without, lungs_only=only),
        metadata_source_probe=source_frame(scored, "metadata", 195),
        pixel_source_probes=source_frame(scored, "whole-image", 150),
    )


def test_probes_are_evaluated_by_image_in_any_order() -> None:
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


def test_sources_of_one_origin_are_one_source_for_a_probe_that_predicts_origins() -> None:
    """The second half of the images are of west, 50 of them in a collection of its own."""
    made = probed()
    source = made.predictions.source.copy()
    source[150:] = "west-2"
    facts = made.study.manifest.model_copy(update={"origins": {"west-2": "west"}})
    joined = replace(
        made,
        predictions=replace(made.predictions, source=source),
        study=made.study.model_copy(update={"manifest": facts}),
    )
    first, _ = shortcuts.compute(joined).sources
    assert (first.probe, first.accuracy.value, first.chance, first.sources) == ("metadata", 97.5, 50.0, 2)


def test_probes_of_some_images_are_compared_on_these() -> None:
    made = probed()
    parts, images = dict(made.evidence.parts), made.predictions.image_id[50:]
    for name in ("pixel_probes", "pixel_source_probes"):
        parts[name] = parts[name][parts[name]["image_id"].isin(images)]
    some = with_evidence(made, **parts)

    results = shortcuts.compute(some)
    metadata, without, _ = results.probes
    assert metadata.accuracy.value == 55.0  # of all images
    assert (without.accuracy.value, without.control.value) == (40.0, pytest.approx(100 * 130 / 150))
    assert "Computed on 150 of 200 images" in " ".join(shortcuts.render(some, results).lead)


def test_probes_that_lose_their_lead_without_the_lungs_are_no_shortcut() -> None:
    made = probed()
    results = shortcuts.compute(made)
    assert not any(probe.shortcut for probe in results.probes)
    section = shortcuts.render(made, results)
    assert section.lead[0].startswith("No shortcut found")
    assert section.warnings == ()
    assert "The lungs carry 100.00\N{NO-BREAK SPACE}% of the lead over chance" in " ".join(section.lead)


@pytest.mark.parametrize("name", ["metadata", "without"])
def test_a_probe_that_keeps_most_of_the_lead_is_a_shortcut_with_a_warning(name: str) -> None:
    made = probed(**{name: 170})
    results = shortcuts.compute(made)
    probes, sources = results.probes, results.sources
    assert [probe.name.startswith(name) for probe in probes] == [probe.shortcut for probe in probes]
    section = shortcuts.render(made, results)
    assert section.lead[0].startswith("Shortcut found")
    assert len(section.warnings) == 1
    assert "70.00" in section.warnings[0] or "85.00" in section.warnings[0]
    assert len(sources) == 2


def test_the_probe_of_the_lungs_is_never_a_shortcut() -> None:
    probes = shortcuts.compute(probed(only=199)).probes
    assert not probes[-1].shortcut


def test_the_table_has_winner_reference_probes_and_chance() -> None:
    made = probed(without=170)
    section = shortcuts.render(made, shortcuts.compute(made))
    rows = list(csv.reader(to_csv(section.tables[0]).splitlines()))[1:]
    assert [float(row[1]) for row in rows] == [95, 90, 55, 85, 90, 50]
    assert [row[-1] for row in rows[2:5]] == ["none found", "shortcut", "information in the lungs"]
    values = json.loads(json.dumps(dict(section.values)))
    assert values["probes"]["without-lungs"]["lead_kept"] == pytest.approx(87.5)
    assert values["sources"]["metadata"]["accuracy"]["value"] == 97.5


def test_the_alternative_text_contains_the_figures_and_marks_synthetic_images() -> None:
    made = probed(synthetic=True)
    picture = shortcuts.render(made, shortcuts.compute(made)).pictures[0]
    assert picture.png.startswith(b"\x89PNG")
    assert picture.alt.startswith("Synthetic images.")
    assert "without lungs 55.00" in picture.alt
    assert "chance, 50.00" in picture.alt


def test_without_imagenet_weights_there_is_still_the_metadata_probe() -> None:
    made = study()
    reason = {"pixel_probes": "Expected ImageNet weights and found none."}
    made = with_evidence(made, reason, metadata_probe=probe_frame(made.predictions, metadata=170))
    results = shortcuts.compute(made)
    section = shortcuts.render(made, results)
    assert [probe.name for probe in results.probes] == ["metadata"]
    assert results.probes[0].shortcut
    assert "The probes of pixels are missing. Expected ImageNet weights and found none." in section.lead


def test_with_one_source_there_is_no_source_probe() -> None:
    made = report_inputs(predictions(["east"] * 200, ["Covid19", "Normal"] * 100))
    scored = made.predictions
    made = with_evidence(
        made,
        metadata_probe=probe_frame(scored, metadata=150),
        metadata_source_probe=source_frame(scored, "metadata", 200).iloc[:0],
    )
    results = shortcuts.compute(made)
    assert results.sources == ()
    assert [table.name for table in shortcuts.render(made, results).tables] == ["shortcuts"]


def test_without_evidence_the_section_says_why() -> None:
    made = study()
    assert shortcuts.compute(made) == shortcuts.ShortcutResults()
    assert "cxr report --manifest" in shortcuts.render(made, shortcuts.ShortcutResults()).absent


def test_a_probe_is_inconclusive_if_its_reference_is_not_better_than_chance() -> None:
    sentence = probe_sentence("without-lungs", Interval(60.0), Interval(50.0), 50.0, shortcut=False)
    assert sentence.endswith("not better than chance, so that this is inconclusive.")
