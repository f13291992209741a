"""Validation of a written manifest with Great Expectations, and the report of its results."""

import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cxr_platform.errors import ManifestInvalid
from cxr_platform.manifest.store import Manifest

VALIDATION_FOLDER = "validation"
ROWS_NAMED = 10  # per failed expectation


def validate_manifest(manifest: Manifest) -> None:
    """Check the stored manifest and write validation/result.json and validation/summary.md into its folder.

    Raises `ManifestInvalid`, which names the first failed expectation, its column and the first rows.
    """
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    with warnings.catch_warnings():
        # Libraries that Great Expectations imports warn about future Python versions.
        warnings.simplefilter("ignore")
        results = _run(manifest)
    _write(manifest.folder / VALIDATION_FOLDER, results)
    failed = [(name, result) for name, result in _expectations(results) if not result["success"]]
    if failed:
        raise _invalid(failed)


def _run(manifest: Manifest) -> dict[str, Any]:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    from cxr_platform.manifest.expectations import all_checks

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("manifest")
    results = {}
    for check in all_checks(manifest):
        # `run` accepts only a suite and a definition that were added to the context.
        suite = context.suites.add(gx.ExpectationSuite(name=check.name, expectations=check.expectations))
        batch = source.add_dataframe_asset(check.name).add_batch_definition_whole_dataframe("all rows")
        definition = gx.ValidationDefinition(name=check.name, data=batch, suite=suite)
        result_format = {
            "result_format": "SUMMARY",
            "unexpected_index_column_names": list(check.named_by),
            "partial_unexpected_count": ROWS_NAMED,
        }
        result = context.validation_definitions.add(definition).run(
            batch_parameters={"dataframe": check.frame}, result_format=result_format
        )
        results[check.name] = result.to_json_dict()
    return results


def _expectations(results: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, result in results.items():
        for expectation in result["results"]:
            yield name, expectation


def _write(folder: Path, results: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "result.json").write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "summary.md").write_text(_summary(results), encoding="utf-8")


def _summary(results: dict[str, Any]) -> str:
    lines = ["# Validation of the manifest", "", "| table | expectation | of | result |", "|---|---|---|---|"]
    for name, result in _expectations(results):
        outcome = "met" if result["success"] else f"**not met**: {_received(result)}"
        lines.append(f"| {name} | {_kind(result)} | {_subject(result)} | {outcome} |")
    return "\n".join(lines) + "\n"


def _kind(result: dict[str, Any]) -> str:
    return str(result["expectation_config"]["type"])


def _subject(result: dict[str, Any]) -> str:
    arguments = result["expectation_config"]["kwargs"]
    names = [arguments[key] for key in ("column", "column_A", "column_B") if key in arguments]
    return ", ".join(names) or "the table"


def _received(result: dict[str, Any]) -> str:
    """Return what came instead: an exception, the first rows, or the observed value."""
    error = result["exception_info"].get("exception_message")
    if error:
        return str(error)
    outcome = result["result"]
    if "partial_unexpected_index_list" not in outcome:
        return str(outcome.get("observed_value"))
    rows = "; ".join(" ".join(f"{k}={v}" for k, v in row.items()) for row in outcome["partial_unexpected_index_list"])
    return f"{outcome['unexpected_count']} of {outcome['element_count']} rows, the first: {rows}"


def _invalid(failed: list[tuple[str, dict[str, Any]]]) -> ManifestInvalid:
    name, first = failed[0]
    more = f" {len(failed) - 1} further expectations failed." if len(failed) > 1 else ""
    return ManifestInvalid(
        f"The manifest is not valid: {name}: {_kind(first)} of {_subject(first)}.",
        received=_received(first),
        advice=f"Every result is in {VALIDATION_FOLDER}/summary.md there.{more}",
    )
