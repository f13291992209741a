"""What the report of a study said against its figures, so that a model card repeats it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr_platform.domain.study import StudyRecord
from cxr_platform.evaluation.credibility import confounding_warning
from cxr_platform.evaluation.findings import Association
from cxr_platform.evaluation.statistics.association import cramers_v, single_source, sources_of
from cxr_platform.evaluation.study_results import StudyResults
from cxr_platform.evaluation.summary import INTERVALS

BELIEF = "Can it be believed"


@dataclass(frozen=True)
class Reported:
    """`confounding` names classes of a single source, and is empty where there are none; it needs no report.

    `belief` and `limits` are the report's words, but for what a model card says of intervals itself; `None` and empty where
    there is no report of this study as it is now.
    """

    confounding: str
    belief: str | None
    limits: tuple[str, ...]


def reported(folder: Path, outcome: StudyResults) -> Reported:
    """What `folder`/results.json and the sources of the images say."""
    counts = outcome.counts
    found = Association(cramers_v(counts), single_source(counts), len(sources_of(counts)))
    tree = _results(folder / "results.json", outcome.study)
    lines = {line["title"]: line["text"] for line in tree.get("answer", {}).get("lines", [])}
    limits = tuple(limit for limit in tree.get("answer", {}).get("limits", []) if limit != INTERVALS)
    return Reported(confounding_warning(found), lines.get(BELIEF), limits)


def _results(path: Path, study: StudyRecord) -> Mapping[str, Any]:
    """The report's results; empty where there are none, or of another state of the study."""
    try:
        tree: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known = study.model_dump(mode="json", include={"started", "strategies"})
        same = all(tree["study"][key] == value for key, value in known.items())
        return tree if same and tree["manifest"]["content_hash"] == study.manifest.content_hash else {}
    except (OSError, ValueError, KeyError, TypeError):  # a report is made again in a minute; a model card does without
        return {}
