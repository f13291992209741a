"""Show where the seconds of a trial go, on its first and later folds, and how much of the cores a study leaves idle.

The first part runs trials in a fresh process, as a worker does, and takes their time apart. Compilation is the time of
the first fold's epochs, each beyond the same epoch of later folds (a strategy whose images grow compiles twice), and of
its prediction; of a single fold, that of the first epoch beyond the others. The second part runs the same study with
`cxr cross-validate` and compares the processor time of all its processes with the cores and the wall time.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from cxr_platform.domain.strategies import strategy_by_name
from cxr_platform.domain.study import TrialKey, read_study
from cxr_platform.errors import ConfigError, StudyError, last_line
from cxr_platform.storage.trial_files import read_trials
from pipelines.benchmarks import write_result
from pipelines.benchmarks.processes import Usage, run_watched
from pipelines.benchmarks.study import (
    StudyBenchmarkRequest,
    StudyCommand,
    add_measured_study_options,
    manifest_of_size,
    with_folds,
)
from pipelines.options import ProfileOptions

if TYPE_CHECKING:
    from cxr_platform.manifest.store import Manifest
    from cxr_platform.training.study import StudyRun
    from cxr_platform.training.trial import Epoch


@dataclass(frozen=True)
class OverheadRequest(StudyBenchmarkRequest):
    """The study to measure, and whether trials are taken apart only."""

    skip_study: bool


@dataclass(frozen=True)
class TrialParts:
    """Seconds of one trial by what it does; the first of a process also imports, loads images and compiles."""

    imports: float
    load: float
    activations: float
    build: float
    compile: float
    steps: float
    evaluation: float
    writing: float

    @property
    def total(self) -> float:
        """All seconds."""
        return sum(float(getattr(self, field.name)) for field in fields(self))


@dataclass(frozen=True)
class Idle:
    """Shares of the cores that a study left idle: over the command, over its trials, and while fewer trials than cores
    were left to run (the last long trial); `tail_seconds` is how long that was.
    """

    command: float
    trials: float
    tail: float
    tail_seconds: float
    command_seconds: float


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `cxr benchmark overhead`."""
    add_measured_study_options(parser, strategies="off-the-shelf,fine-tuning-1,scratch")
    parser.add_argument("--skip-study", action="store_true", help="take trials apart only, without the idle cores")


def run(request: OverheadRequest) -> int:
    """Print the parts of the trials of every strategy, then the idle shares; return 0.

    Raises `ConfigError` for a strategy whose head is solved, `StudyError` if trials fail.
    """
    request.profile.load()  # an error in it is one before anything is read or written
    solved = [name for name in request.strategies if strategy_by_name(name).is_solved]
    if solved:
        raise ConfigError("Expected --strategies with training epochs to take apart.", received=", ".join(solved))
    request.work.mkdir(parents=True, exist_ok=True)
    manifest = manifest_of_size(request.manifest, request.work / "manifest", request.profile)
    headings = [field.name for field in fields(TrialParts)]
    print(f"{'seconds':<26}{''.join(f'{heading:>12}' for heading in headings)}{'total':>12}")
    parts = {}
    for name in request.strategies:
        first, *later = parts[name] = trial_parts(request, manifest, name)
        _print_row(f"{name}, first fold", first)
        if later:
            _print_row(f"{name}, later folds", mean_parts(later))
    idle = None if request.skip_study else _idle_of_study(request, manifest)
    if idle is not None:
        print(
            f"idle share of {os.cpu_count()} cores: {idle.trials:.1%} during the trials, {idle.command:.1%} of the "
            f"whole command ({idle.command_seconds:.0f} s), {idle.tail:.1%} in the last {idle.tail_seconds:.0f} s, in "
            "which fewer trials than cores ran"
        )
    if request.json is not None:
        trials = {name: [asdict(one) for one in folds] for name, folds in parts.items()}
        settings = {"images": manifest.info.images, "profile": request.profile.profile, "engine": request.engine}
        write_result(request.json, "overhead", {**settings, "trials": trials, "idle": idle and asdict(idle)})
    return 0


def trial_parts(request: OverheadRequest, manifest: "Manifest", name: str) -> list[TrialParts]:
    """Return the parts of the trials of strategy `name`, fold by fold, as a fresh process measured them.

    Raises `StudyError` with the last line of that process if it fails.
    """
    with tempfile.TemporaryDirectory(dir=request.work) as folder:
        result = Path(folder) / "parts.json"
        values = {
            "manifest": str(manifest.folder),
            "strategy": name,
            "profile": request.profile.profile,
            "seed": request.profile.seed,
            "input_size": request.profile.input_size,
            "weights": request.imagenet_weights and str(request.imagenet_weights),
            "runs": folder,
            "result": str(result),
        }
        began = time.time()
        command = [sys.executable, "-c", PROBE, json.dumps(values), str(began)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise StudyError(f"Expected the trials of {name} to run.", received=last_line(done.stderr))
        return [TrialParts(**part) for part in json.loads(result.read_text())]


PROBE = "import sys; from pipelines.benchmarks.overhead import measure_trials; measure_trials(*sys.argv[1:])"


def measure_trials(text: str, began: str) -> None:
    """Run all folds of one strategy in this process, which was started at `began`, and write their parts."""
    from cxr_platform.manifest.store import open_manifest
    from cxr_platform.models.weights import find_weights, load_backbone_weights
    from cxr_platform.progress import NoProgress
    from cxr_platform.training.data import load_study_data, manifest_facts
    from cxr_platform.training.devices import is_deterministic, limit_process
    from cxr_platform.training.engine_local import compute_activations, local_share
    from cxr_platform.training.folder import StudyFolder
    from cxr_platform.training.plan import StudyPlan, cuts_of
    from cxr_platform.training.study import StudyRun, inputs_of

    values = json.loads(text)
    strategy = strategy_by_name(values["strategy"])
    options = ProfileOptions(values["profile"], seed=values["seed"], input_size=values["input_size"])
    manifest = open_manifest(Path(values["manifest"]))
    profile = with_folds(options.load(), manifest)
    share = local_share(profile.resources)
    limit_process(profile.resources.cpu, share.gpus, is_deterministic(profile.resources, share.gpus))
    clock = [time.time()]

    def lap() -> float:
        clock.append(time.time())
        return clock[-1] - clock[-2]

    import_seconds = clock[0] - float(began)
    weights = values["weights"] and Path(values["weights"])
    alpha = profile.model.alpha
    imagenet = load_backbone_weights(find_weights(alpha, weights), alpha) if strategy.pretrained else None
    plan = StudyPlan("overhead", "grouped", (strategy.name,), profile, manifest_facts(manifest))
    data = load_study_data(manifest, "grouped", profile.folds, profile.model.input_size)
    study = StudyRun(plan, StudyFolder(Path(values["runs"]) / "overhead"), data, imagenet)
    study.folder.start(plan)
    load_seconds = lap()
    activations = compute_activations(study, cuts_of([strategy.name]), NoProgress())
    before = {"imports": import_seconds, "load": load_seconds, "activations": lap()}
    bench = study.workbench(share)
    measured = []
    for key in plan.trials():
        inputs = inputs_of(study, key, activations)
        measured.append(_run_trial(study, bench, key, inputs, share))
    parts = take_apart(measured, before)
    Path(values["result"]).write_text(json.dumps([asdict(part) for part in parts]))


@dataclass(frozen=True)
class MeasuredTrial:
    """Wall seconds of a trial with its files, its own `TrialSeconds`, and the seconds of its epochs."""

    wall: float
    total: float
    set_up: float
    prediction: float
    epochs: Sequence[float]


def _run_trial(study: "StudyRun", bench: Any, key: TrialKey, inputs: Any, share: Any) -> MeasuredTrial:
    from cxr_platform.training.study import execute_trial

    epochs: list[float] = []

    def keep(epoch: "Epoch") -> None:
        epochs.append(epoch.seconds)

    began = time.perf_counter()
    record = execute_trial(study, bench, key, inputs, share, keep)
    wall = time.perf_counter() - began
    return MeasuredTrial(wall, record.seconds.total, record.seconds.set_up, record.seconds.prediction, epochs)


def take_apart(trials: Sequence[MeasuredTrial], before: dict[str, float]) -> list[TrialParts]:
    """Return the parts of trials that ran one after the other; `before` is what the process did before the first."""
    predictions = min(trial.prediction for trial in trials)
    parts = []
    for number, trial in enumerate(trials):
        compile_seconds = trial.prediction - predictions
        if number == 0:
            compile_seconds += compile_of_epochs(trial.epochs, [later.epochs for later in trials[1:]])
        parts.append(
            TrialParts(
                **(before if number == 0 else dict.fromkeys(before, 0.0)),
                build=trial.set_up,
                compile=compile_seconds,
                steps=trial.total - trial.set_up - compile_seconds - predictions,
                evaluation=predictions,
                writing=trial.wall - trial.total,
            )
        )
    return parts


def compile_of_epochs(first: Sequence[float], later: Sequence[Sequence[float]]) -> float:
    """Return the seconds that the epochs of the `first` fold take beyond the same ones of the `later` folds.

    Without later folds: those of its first epoch beyond the median of the others.
    """
    if not later:
        return max(0.0, first[0] - median(first[1:] or first))
    usual = [fmean(seconds) for seconds in zip(*later, strict=False)]  # folds of other sizes may have more epochs
    return max(0.0, sum(seconds - other for seconds, other in zip(first, usual, strict=False)))


def mean_parts(parts: Sequence[TrialParts]) -> TrialParts:
    """Return the mean of each part."""
    return TrialParts(*(fmean(getattr(one, field.name) for one in parts) for field in fields(TrialParts)))


def idle_shares(usage: Usage, ends: Sequence[float], begin: float, cores: int) -> Idle:
    """Return the idle shares of a study whose trials began at `begin` and ended at `ends`, in seconds of `usage`.

    The tail begins when fewer trials than cores are left.
    """
    ordered = sorted(ends)
    last = min(usage.seconds, ordered[-1])
    tail = min(last, ordered[-cores]) if len(ordered) >= cores else begin
    return Idle(
        command=usage.idle_share(cores),
        trials=usage.idle_share(cores, begin, last),
        tail=usage.idle_share(cores, tail, last),
        tail_seconds=last - tail,
        command_seconds=usage.seconds,
    )


def _idle_of_study(request: OverheadRequest, manifest: "Manifest") -> Idle:
    study = request.work / "runs" / "idle"
    shutil.rmtree(study, ignore_errors=True)
    began = time.time()
    command = StudyCommand(study.parent, request.engine, request.imagenet_weights, request.profile)
    usage = run_watched(command.words(manifest, study.name, request.strategies))
    trials = [trial for trial in read_trials(study, read_study(study).trials()).values() if trial is not None]
    ends = [trial.finished.timestamp() - began for trial in trials]
    begin = max(0.0, min(trial.started.timestamp() for trial in trials) - began)
    return idle_shares(usage, ends, begin, os.cpu_count() or 1)


def _print_row(name: str, parts: TrialParts) -> None:
    values = [*asdict(parts).values(), parts.total]
    print(f"{name:<26}{''.join(f'{value:12.2f}' for value in values)}", flush=True)
