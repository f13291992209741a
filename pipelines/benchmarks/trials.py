"""Show what a study of many short trials costs beyond its trials, and whether that grows worse than linearly.

The trials sleep (`sleeping_study`); their scheduling, reports and files are those of any study. One study has
`--trials`, the other a quarter of them; each runs in a process of its own. The simulator of `cxr simulate` states how
long the same trials would take if scheduling and files took no time. Files alone are measured by the local engine.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from cxr_platform.errors import ConfigError, StudyError, last_line
from cxr_platform.training.simulation import Conditions, simulate
from pipelines.benchmarks import write_result
from pipelines.benchmarks.growth import LINEAR, exponent
from pipelines.benchmarks.processes import peak_mib, run_watched

LEAST_TRIALS = 8
LINEAR_VERDICT = "nothing worse than linear"
LOCAL_TRIALS = 20
"""Trials of the local engine, one after the other, for the time of the files."""


@dataclass(frozen=True)
class TrialsRequest:
    """Number and length of the trials, where they run, and the JSON file for the result (`None`: print only)."""

    trials: int
    seconds: float
    trials_per_cpu: float
    ray_address: str | None
    work: Path
    json: Path | None


@dataclass(frozen=True)
class Measured:
    """One study: seconds from the `start` of its driver until the first trial begins, and `makespan` from then on.

    `simulated` is the makespan of the simulator. `first_half` and `second_half` are the seconds in which either half of
    the trials ended, `driver_cpu` the processor time of the driver from the first end on, `files` the seconds of one
    trial that its files take, `driver_mib` the driver's peak of memory, `status` the seconds of reading the status,
    and `status_command` those of `cxr study status`.
    """

    trials: int
    places: int
    start: float
    makespan: float
    simulated: float
    first_half: float
    second_half: float
    driver_cpu: float
    files: float
    driver_mib: float
    status: float
    status_command: float

    @property
    def overhead(self) -> float:
        """Seconds of a place that each trial costs beyond its own."""
        return (self.makespan - self.simulated) * self.places / self.trials

    @property
    def scheduling(self) -> float:
        """That part of the overhead which is not the trial's files."""
        return self.overhead - self.files


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `cxr benchmark trials`."""
    add = parser.add_argument
    add("--trials", type=int, default=40, metavar="N", help="trials of the larger study (default: 40)")
    add("--seconds", type=float, default=0.2, help="length of a trial (default: 0.2)")
    add("--trials-per-cpu", type=float, default=1.0, metavar="K", help="trials at once on a processor (default: 1)")
    add("--ray-address", help="cluster to run on (default: RAY_ADDRESS, or Ray on this machine alone)")
    add("--work", type=Path, required=True, metavar="FOLDER", help="folder for the studies, which all nodes share")
    add("--json", type=Path, metavar="FILE", help="also write the result with hardware and versions")


def run(request: TrialsRequest) -> int:
    """Print the figures of both studies and whether one grows worse than linearly; return 0."""
    if request.trials < LEAST_TRIALS or request.seconds <= 0 or request.trials_per_cpu <= 0:
        raise ConfigError(
            f"Expected at least {LEAST_TRIALS} trials that take more than 0 s, and more than 0 of them per processor.",
            received=f"{request.trials} of {request.seconds} s, {request.trials_per_cpu} per processor",
        )
    request.work.mkdir(parents=True, exist_ok=True)
    few, many = (measured_study(request, trials) for trials in (request.trials // 4, request.trials))
    print("\n".join(lines(few, many)))
    if request.json is not None:
        sizes = {"few": few, "many": many}
        studies = {name: asdict(one) | {"overhead": one.overhead} for name, one in sizes.items()}
        write_result(request.json, "trials", {"seconds": request.seconds, **studies, "verdict": verdict(few, many)})
    return 0


def lines(few: Measured, many: Measured) -> list[str]:
    """Return the table of two studies, and what follows from it."""
    rows = table_rows(few, many)
    table = [f"{name:<26}{''.join(f'{cell:>12}' for cell in cells)}" for name, cells in rows.items()]
    return [*table, "", verdict(few, many)]


def table_rows(few: Measured, many: Measured) -> dict[str, list[str]]:
    """Return the name of each figure with its text for two studies."""
    second = figures(many)
    return {name: [text, second[name]] for name, text in figures(few).items()}


def figures(study: Measured) -> dict[str, str]:
    """Return the name of each figure of a study with its text."""
    return {
        "trials": f"{study.trials}",
        "trials at once": f"{study.places}",
        "start, s": f"{study.start:.1f}",
        "all trials, s": f"{study.makespan:.1f}",
        "simulated, s": f"{study.simulated:.1f}",
        "overhead per trial, ms": f"{1000 * study.overhead:.0f}",
        "… of it its files, ms": f"{1000 * study.files:.0f}",
        "first half, s": f"{study.first_half:.1f}",
        "second half, s": f"{study.second_half:.1f}",
        "driver, CPU ms per trial": f"{1000 * study.driver_cpu / study.trials:.0f}",
        "driver, peak MiB": f"{study.driver_mib:.0f}",
        "reading the status, s": f"{study.status:.3f}",
        "cxr study status, s": f"{study.status_command:.1f}",
    }


def verdict(few: Measured, many: Measured) -> str:
    """Return how times and memory grow with the trials, times with their exponents: 1 is linear.

    The driver's work is taken as processor time, as other programs on the machine lengthen the trials.
    """
    trials = [few.trials, many.trials]
    grown = {
        "the driver's CPU time": exponent(trials, [few.driver_cpu, many.driver_cpu]),
        "reading the status": exponent(trials, [few.status, many.status]),
    }
    worse = [name for name, value in grown.items() if value > LINEAR]
    kib = (many.driver_mib - few.driver_mib) * 1024 / (many.trials - few.trials)
    figures = ", ".join(f"{name} {value:.2f}" for name, value in grown.items())
    return (
        f"{'worse than linear: ' + ', '.join(worse) if worse else LINEAR_VERDICT} "
        f"(exponents: {figures}; limit {LINEAR}); {kib:.0f} KiB of the driver's memory per trial"
    )


def measured_study(request: TrialsRequest, trials: int) -> Measured:
    """Run a study of `trials` in a process of its own, and return what it and the status took."""
    folder = request.work / f"sleeping-{trials}"
    shutil.rmtree(folder, ignore_errors=True)
    result = request.work / f"sleeping-{trials}.json"
    values = [str(folder.absolute()), str(trials), str(request.seconds), str(request.trials_per_cpu)]
    command = [sys.executable, "-c", PROBE, str(result), request.ray_address or "", *values]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise StudyError(f"Expected a study of {trials} trials to run.", received=last_line(done.stderr))
    measured = json.loads(result.read_text())
    status = run_watched(["pipelines.study", "status", str(folder.absolute())], sample=0.05)
    return Measured(trials=trials, status_command=status.seconds, **measured)


PROBE = "import sys; from pipelines.benchmarks.trials import measure; measure(*sys.argv[1:])"


def measure(result: str, address: str, folder: str, trials: str, seconds: str, trials_per_cpu: str) -> None:
    """Run the study in this process, which is its driver, and write the fields of `Measured` but two to `result`."""
    from cxr_platform.cluster import capacity, connection
    from cxr_platform.training import engine_local, engine_ray
    from cxr_platform.training.study import run_study
    from pipelines.benchmarks.sleeping_study import NotedTimes, places_of, sleeping_study

    alone, local = sleeping_study(Path(f"{folder}-local"), LOCAL_TRIALS, 0.001), NotedTimes()
    run_study(alone, engine_local.run, local)
    shutil.rmtree(alone.folder.root)
    study, times = sleeping_study(Path(folder), int(trials), float(seconds), float(trials_per_cpu)), NotedTimes()
    with connection(address or None):
        cluster = capacity()
        places = places_of(study.plan.profile, cluster.cpus, cluster.largest_cpus)
        run_study(study, engine_ray.run, times)
    began, middle = times.ends[0] - times.seconds[0], times.ends[len(times.ends) // 2 - 1]
    values = {
        "places": places,
        "start": began,
        "makespan": times.ends[-1] - began,
        "simulated": simulate(times.seconds, Conditions(gpus=1, trials_per_gpu=places)).makespan,
        "first_half": middle - began,
        "second_half": times.ends[-1] - middle,
        "driver_cpu": times.processor[-1] - times.processor[0],
        "files": (local.ends[-1] - local.ends[0] - sum(local.seconds[1:])) / (LOCAL_TRIALS - 1),
        "driver_mib": peak_mib(os.getpid()),
        "status": _status_seconds(study.folder.root),
    }
    Path(result).write_text(json.dumps(values), encoding="utf-8")


def _status_seconds(root: Path) -> float:
    from cxr_platform.training.status import read_status

    times = []
    for _ in range(3):
        began = time.monotonic()
        assert not read_status(root).waiting
        times.append(time.monotonic() - began)
    return median(times)
