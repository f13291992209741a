"""What `gpu-study.json` states about a study on a GPU, and its page in Markdown."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.benchmarks import markdown_table

if TYPE_CHECKING:
    from cxr_platform.manifest.store import Manifest

PAGE_TABLES = ("summary", *(f"table-{number}" for number in range(1, 8)))
"""Tables of the report that the page shows: all strategies, and the paper's seven beside this study."""


def study_result(folder: Path, manifest: "Manifest") -> dict[str, Any]:
    """Return what the page states about the study in `folder`: counts, times, and the results of whole strategies."""
    from cxr_platform.domain.study import read_study
    from cxr_platform.evaluation.predictions import load_predictions
    from cxr_platform.evaluation.report_tables import report_tables
    from cxr_platform.evaluation.resource_use import read_resource_use
    from cxr_platform.evaluation.study_results import compute_study_results
    from cxr_platform.evaluation.table import to_markdown
    from cxr_platform.storage.trial_files import read_trials

    if not (folder / "study.json").is_file():
        return {"trials": 0, "finished": 0}
    record = read_study(folder)
    trials = [trial for trial in read_trials(folder, record.trials()).values() if trial is not None]
    strategies = {
        name: {
            "trials": len(own),
            "seconds": sum(trial.seconds.total for trial in own) / len(own),
            "epochs": own[0].epochs,
            "accuracy": sum((trial.accuracy or 0.0) * trial.images.test for trial in own)
            / sum(trial.images.test for trial in own),
        }
        for name in record.strategies
        if (own := [trial for trial in trials if trial.strategy == name])
    }
    tables = {}
    if (folder / "predictions.parquet").is_file():
        results = report_tables(compute_study_results(record, load_predictions(folder, record)))
        tables = {name: to_markdown(table) for name, table in results.items()}
    use = read_resource_use(folder, record)
    return {
        "trials": len(record.trials()),
        "finished": len(trials),
        "images": manifest.info.images,
        "folds": record.folds,
        "input_size": record.profile.model.input_size,
        "profile": record.profile.name,
        "protocol": record.protocol,
        "content_hash": manifest.content_hash,
        "synthetic": manifest.info.synthetic,
        "precision": sorted({trial.precision for trial in trials}),
        "deterministic": sorted({trial.deterministic for trial in trials}),
        "wall_seconds": use.wall_seconds,
        "strategies": strategies,
        "tables": tables,
    }


def gpu_study_page(result: dict[str, Any]) -> str:
    """Return the Markdown page of `gpu-study.json`."""
    study, benchmark = result["study"], result["benchmark_gpu"]
    hardware, versions = result["hardware"], result["versions"]
    device = ", ".join(hardware["gpus"]) or "no GPU"
    parts = [
        f"# {device}, {result['date']}\n",
        f"Measured with `cxr gpu-study run` on {device} beside {hardware['processors']} × {hardware['processor']}; "
        f"{', '.join(f'{name} {version}' for name, version in versions.items())}. This page is written from "
        "`gpu-study.json` by `cxr gpu-study page`.\n",
    ]
    if benchmark is not None:
        parts += _benchmark_parts(benchmark)
    return "\n".join([*parts, *_study_parts(study)])


def _benchmark_parts(benchmark: dict[str, Any]) -> list[str]:
    work = benchmark["limits"]["work"]
    limits = [
        [name, f"{rate['flop'] / 1e12:.1f}", f"{rate['moved_bytes'] / 1e9:.0f}", *_limits(benchmark, name)]
        for name, rate in benchmark["limits"]["device"].items()
    ]
    speeds = [
        [
            str(speed["batch_size"]),
            speed["precision"],
            *(f"{speed[name]:.0f}" for name in ("loop", "bare_step", "model_fit")),
            f"{speed['loop_to_model_fit']:.2f}",
            f"{speed['of_limit']:.2f}",
        ]
        for speed in benchmark["speeds"]
    ]
    together = [
        [
            str(one["trials"]),
            "yes" if one["mps"] else "no",
            f"{one['images_per_second']:.0f}",
            f"{one['trials_per_hour']:.0f}",
        ]
        for one in benchmark["at_once"]
    ]
    return [
        f"## Speed of {benchmark['strategy']} at {benchmark['input_size']} px\n",
        f"Training on an image takes {work['macs'] / 1e6:.0f} MMAC forward, {work['flop'] / 1e9:.2f} GFLOP forward "
        f"and backward; its layers write {work['outputs'] / 1e6:.1f} M values. The limits are measured on the "
        "same device, by a product of matrices and a copy.\n",
        _table(
            ["precision", "TFLOP/s", "GB/s", "limit by arithmetic (images/s)", "limit by memory (images/s)"], limits
        ),
        _table(
            [
                "batch",
                "precision",
                "loop (images/s)",
                "bare step",
                "model.fit",
                "loop / model.fit",
                "of the lower limit",
            ],
            speeds,
        ),
        _table(["trials at once", "MPS", "images/s", "trials an hour, the paper's size"], together)
        if together
        else "Trials at once were not measured: the time of the call was over.\n",
    ]


def _limits(benchmark: dict[str, Any], precision: str) -> list[str]:
    bounds = benchmark["limits"]["images_per_second"][precision]
    return [f"{bounds['arithmetic_limit']:.0f}", f"{bounds['memory_limit']:.0f}"]


def _study_parts(study: dict[str, Any]) -> list[str]:
    if not study["finished"]:
        return ["## Study\n", "No trial was finished.\n"]
    seconds = sum(call["seconds"] for call in study["calls"])
    busy = [
        f"{call['gpu_busy']:.0%} of {call['seconds']:.0f} s" for call in study["calls"] if call["gpu_busy"] is not None
    ]
    end = "predictions" if study["finished"] == study["trials"] else "the end of the calls"
    images = "drawn images" if study["synthetic"] else "images"
    packed = f", stored as JPEG of quality {study['jpeg_quality']}" if study["jpeg_quality"] else ""
    at_once = " and ".join(f"{call['processes']}{' with MPS' if call.get('mps') else ''}" for call in study["calls"])
    rows = [
        [name, str(one["trials"]), str(one["epochs"]), f"{one['seconds']:.1f}", f"{one['accuracy']:.3f}"]
        for name, one in study["strategies"].items()
    ]
    return [
        "## Study\n",
        f"Profile {study['profile']}, {study['images']:,} {images} of {study['input_size']} px{packed}, "
        f"{study['folds']} folds ({study['protocol']}), precision {', '.join(study['precision'])}, content hash "
        f"`{study['content_hash'][:16]}`.\n",
        f"{study['finished']} of {study['trials']} trials in {seconds / 60:.1f} minutes from start to {end}, "
        f"{at_once} at once{'; GPU busy ' + ', '.join(busy) if busy else ''}.\n",
        _table(["strategy", "trials", "epochs", "seconds of a trial", "7-class accuracy"], rows),
        *(study["tables"][name] for name in PAGE_TABLES if name in study["tables"]),
    ]


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown_table(heading, rows) + "\n"
