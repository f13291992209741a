"""The sections of a page of benchmarks of speed and memory: the figures of each result, and which claims they meet.

Those of accuracy are in `accuracy_sections`, those of large studies in `large_study_sections`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from pipelines.benchmarks import markdown_table
from pipelines.benchmarks.growth import LINEAR
from pipelines.benchmarks.serving import NO_HTTP, PLAIN, stages_text

STEP_TO_BARE, STEP_TO_FIT = 0.95, 1.0
LARGEST_IDLE = 0.10
STUDY_RATIO = 5.0
MEMORY_GROWTH = 1.3
"""Largest ratio of the peaks of memory, of many images and of fewer, that counts as flat."""

DECODING_RATIO, TWO_PROCESSES = 0.8, 1.7
SERVER_RATIOS = {NO_HTTP: 0.85, PLAIN: 10.0}
"""Least ratios of the server's images per second to those of other ways; to those of another server it is 1."""

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Claim:
    """What is wanted of a figure, the figure, and whether it is as wanted."""

    wanted: str
    figure: str
    met: bool


@dataclass(frozen=True)
class Section:
    """The figures of one result: a heading, Markdown below it, and claims."""

    heading: str
    body: str
    claims: tuple[Claim, ...]


def _study(result: Result) -> Section:
    platform, stock, ratio = result["platform"], result["stock"], result["stock_to_platform"]
    rows = [
        [name, f"{accuracy:.3f}", f"{stock['accuracy'][name]:.3f}"] for name, accuracy in platform["accuracy"].items()
    ]
    body = (
        f"{result['images']:,} images, {len(rows)} strategies × {result['folds']} folds, {result['input_size']} px, "
        f"profile {result['profile']}, {result['cores']} cores. The platform took {platform['seconds']:.0f} s, the "
        f"stock script {stock['seconds']:.0f} s.\n\n"
        + markdown_table(["strategy", "accuracy of the platform", "accuracy of the stock script"], rows)
    )
    wanted = f"a study at least {STUDY_RATIO:g} times as fast as a stock script"
    return Section("A whole study", body, (Claim(wanted, f"{ratio:.1f} times", ratio >= STUDY_RATIO),))


def _step(result: Result) -> Section:
    size = result["input_size"]
    rows, claims = [], []
    for speed in result["speeds"]:
        to_bare, to_fit = speed["loop_to_bare_step"], speed["loop_to_model_fit"]
        rates = [f"{speed[name]:.0f}" for name in ("loop", "bare_step", "model_fit")]
        types = [speed["precision"], speed["depthwise"] or "none"]
        by_round = zip(*speed["ratios"], strict=True) if "ratios" in speed else ((), ())
        ratios = [_with_range(*one) for one in zip((to_bare, to_fit), by_round, strict=True)]
        rows.append([speed["strategy"], *types, *rates, *ratios])
        rounds = f", {result['rounds']} rounds" if "ratios" in speed else ""
        which = f"{speed['strategy']}, {size} px{rounds}"
        for wanted, ratio, least in (("the bare step", to_bare, STEP_TO_BARE), ("`model.fit`", to_fit, STEP_TO_FIT)):
            claims.append(Claim(f"{which}: loop at least {least:g} of {wanted}", f"{ratio:.2f}", ratio >= least))
    heading = ["strategy", "precision", "depthwise", "loop (images/s)", "bare step", "`model.fit`"]
    heading += ["loop / bare", "loop / fit"]
    deterministic = "deterministic" if result["deterministic"] else "not deterministic"
    ranged = any("ratios" in speed for speed in result["speeds"])
    body = (
        f"{result['batches']} batches in {result['rounds']} rounds, operations {deterministic}; ratios are medians "
        f"over the rounds{', with the lowest and the highest' if ranged else ''}.\n\n{markdown_table(heading, rows)}"
    )
    return Section(f"The training step at {size} px", body, tuple(claims))


def _with_range(middle: float, rounds: Sequence[float]) -> str:
    return f"{middle:.2f} ({min(rounds):.2f} to {max(rounds):.2f})" if rounds else f"{middle:.2f}"


def _overhead(result: Result) -> Section:
    rows = []
    for name, (first, *later) in result["trials"].items():
        rows.append([f"{name}, first fold", *_seconds([first])])
        if later:
            rows.append([f"{name}, later folds", *_seconds(later)])
    parts = list(next(iter(result["trials"].values()))[0])
    body = f"Seconds of a trial; {result['images']:,} images, profile {result['profile']}.\n\n"
    body += markdown_table(["trial", *parts, "total"], rows)
    idle = result["idle"]
    if idle is None:
        return Section("Where the seconds of a trial go", body, ())
    body += (
        f"\n\nIdle share of the cores: {idle['trials']:.1%} during the trials, {idle['command']:.1%} of the whole "
        f"command ({idle['command_seconds']:.0f} s), {idle['tail']:.1%} in the last {idle['tail_seconds']:.0f} s, in "
        "which fewer trials than cores ran."
    )
    wanted = f"less than {LARGEST_IDLE:.0%} of the cores idle during the trials of a study"
    claim = Claim(wanted, f"{idle['trials']:.1%}", idle["trials"] < LARGEST_IDLE)
    return Section("Where the seconds of a trial go", body, (claim,))


def _seconds(trials: Sequence[Mapping[str, float]]) -> list[str]:
    means = [fmean(trial[part] for trial in trials) for part in trials[0]]
    return [f"{seconds:.2f}" for seconds in (*means, sum(means))]


def _manifest(result: Result) -> Section:
    decoding, builds = result["decoding"], result["builds"]
    ratios = decoding["ratios"]
    libraries = ", ".join(f"{kind} by {library}" for kind, library in sorted(decoding["libraries"].items()))
    rows = [["bare loop", f"{decoding['bare']:.0f}", "1.00"]]
    rows += [[name.replace("_", " "), f"{decoding[name]:.0f}", f"{ratio:.2f}"] for name, ratio in ratios.items()]
    body = (
        f"{decoding['files']} files; the bare loop decodes and resizes alone ({libraries}). Two processes decode "
        f"{decoding['two_processes']:.2f} times as fast as one.\n\n"
        + markdown_table(["what is done", "images/s of a core", "ratio"], rows)
    )
    gain = decoding["two_processes"]
    claims = [
        Claim(
            f"decoding of {decoding['files']} files with all that an image needs at least {DECODING_RATIO:g} of a bare "
            "loop",
            f"{ratios['image']:.2f}",
            ratios["image"] >= DECODING_RATIO,
        ),
        Claim(
            f"two processes decode {decoding['files']} files at least {TWO_PROCESSES:g} times as fast",
            f"{gain:.2f}",
            gain >= TWO_PROCESSES,
        ),
    ]
    if builds:
        few, many = builds
        heading = ["images", "seconds", "seconds per 1,000", "driver (MiB)", "largest worker (MiB)"]
        rows = [
            [
                f"{build['images']:,}",
                f"{build['seconds']:.0f}",
                f"{1000 * build['seconds'] / build['images']:.2f}",
                f"{build['driver_mib']:.0f}",
                f"{build['worker_mib']:.0f}",
            ]
            for build in builds
        ]
        body += f"\n\n{markdown_table(heading, rows)}"
        growth = max(many[name] / few[name] for name in ("driver_mib", "worker_mib"))
        wanted = f"memory of a manifest at most {MEMORY_GROWTH:g} times that of a quarter of its images"
        claims.append(Claim(wanted, f"{growth:.2f}", growth <= MEMORY_GROWTH))
    return Section(f"Decoding of {decoding['files']} files", body, tuple(claims))


def _growth(result: Result) -> Section:
    rows, claims = [], []
    for series in result["series"]:
        pairs = zip(series["amounts"], series["seconds"], strict=True)
        rows.append(
            [
                series["of"],
                ", ".join(f"{amount:g}: {time:.0f} s" for amount, time in pairs),
                f"{series['exponent']:.2f}",
            ]
        )
        met = series["exponent"] <= LINEAR
        claims.append(Claim(f"time against {series['of']}: exponent at most {LINEAR}", rows[-1][-1], met))
    body = (
        f"Up to {result['images']:,} images, profile {result['profile']}; the start-up of "
        f"{result['start_up_seconds']:.0f} s is subtracted.\n\n"
        + markdown_table(["what grows", "seconds", "exponent"], rows)
    )
    return Section("Growth", body, tuple(claims))


def _serving(result: Result) -> Section:
    clients = result["clients"]
    rows = [
        [name if "p50_ms" not in figures else f"{name}, 320 px, {clients} clients", *_rate_cells(figures)]
        for name, figures in result["compared"].items()
    ]
    rows += [
        [f"this server, {figures['images']}, {figures['clients']} clients", *_rate_cells(figures)]
        for figures in result["alone"]
    ]
    size = result["images"]["320 px"]["mean_bytes"] / 1000
    files = f"; files of {result['images']['files']['mean_bytes'] / 1000:.0f} KB" if "files" in result["images"] else ""
    body = (
        f"MobileNetV2 at {result['input_size']} px, alpha {result['alpha']:g}, {result['cores']} cores, the clients on "
        f"the same. PNG files of 320 px and {size:.0f} KB{files}. Comparisons are medians of rounds of "
        f"{result['seconds']:g} s in turn. {', '.join(f'{name} {v}' for name, v in result['servers'].items())}.\n\n"
        + markdown_table(["", "images/s", "a core", "p50 (ms)", "p99 (ms)", "not answered with 200"], rows)
    )
    if "largest_network_gain" in result:  # results of earlier versions lack it
        body += f"\n\n{stages_text(result['compared'][NO_HTTP], result['largest_network_gain'])}"
    claims = [
        Claim(f"images/s at least {least:g} of {name}", f"{ratio:.2f}", ratio >= least)
        for name, ratio in result["ratios"].items()
        for least in [SERVER_RATIOS.get(name, 1.0)]
    ]
    claims.append(Claim("no request lost under load", str(result["lost"]), result["lost"] == 0))
    return Section("The server", body, tuple(claims))


def _rate_cells(figures: Mapping[str, Any]) -> list[str]:
    cells = [f"{figures['images_per_second']:.1f}", f"{figures['a_core']:.1f}"]
    if "p50_ms" not in figures:
        return [*cells, "", "", ""]
    others = sum(count for status, count in figures["statuses"].items() if status != "200")
    return [*cells, f"{figures['p50_ms']:.0f}", f"{figures['p99_ms']:.0f}", str(others)]


SECTIONS: dict[str, Callable[[Result], Section]] = {
    "study": _study,
    "step": _step,
    "overhead": _overhead,
    "manifest": _manifest,
    "growth": _growth,
    "serving": _serving,
}
