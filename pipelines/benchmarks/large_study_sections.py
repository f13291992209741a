"""The sections of a page of benchmarks for many images, many trials and several nodes (see `page_sections`)."""

from collections.abc import Callable
from dataclasses import fields
from statistics import fmean

from pipelines.benchmarks import markdown_table
from pipelines.benchmarks.page_sections import MEMORY_GROWTH, Claim, Result, Section
from pipelines.benchmarks.trials import LINEAR_VERDICT, Measured, table_rows

LARGEST_PROCESS_MIB = 3 * 1024
STREAMED_TO_MEMORY = 0.9
LARGEST_LOSS = 1.0
"""Points of accuracy: with few seeds the interval of a difference is wide, and nearly no difference significant."""
LARGEST_DIFFERENCE = 1e-3
"""Of the probabilities of two runs: what sums of floats in another order make of a few hundred steps."""


def _archive(result: Result) -> Section:
    rows = [
        [
            f"{stage['images']:,}",
            stage["name"],
            f"{stage['seconds']:.0f}",
            *(f"{stage[name]:.0f}" for name in ("driver_mib", "worker_mib")),
            *(f"{stage[name]:.1f}" for name in ("read_gib", "written_gib")),
        ]
        for stage in result["stages"]
    ]
    heading = [
        "images",
        "stage",
        "seconds",
        "driver (MiB)",
        "largest other process (MiB)",
        "read (GiB)",
        "written (GiB)",
    ]
    most = max(stage["images"] for stage in result["stages"])
    peaks = {
        (stage["images"], stage["name"]): max(stage["driver_mib"], stage["worker_mib"]) for stage in result["stages"]
    }
    fewer = min(images for images, _ in peaks)
    growth = {name: peaks[most, name] / peaks[fewer, name] for images, name in peaks if images == most}
    largest, largest_before = (max(peak for (n, _), peak in peaks.items() if n == images) for images in (most, fewer))
    body = (
        f"Drawn images of 128 px; {result['strategies']} at 96 px × 2 folds, with activations in files. Peaks of "
        "resident memory count shared memory and mapped files; bytes are those that reached the disk.\n\n"
        + markdown_table(heading, rows)
        + "\n\nUse of the node's cache by the trials: images in a file, and activations.\n\n"
        + markdown_table(
            ["images", "reads that found their file", "others", "fetched or made (GiB)", "files removed"],
            [
                [
                    f"{use['images']:,}",
                    *(f"{use[name]:,}" for name in ("hits", "misses")),
                    f"{use['fetched_bytes'] / 2**30:.1f}",
                    f"{use['evictions']:,}",
                ]
                for use in result["caches"]
            ],
        )
    )
    claims = (
        Claim(
            f"largest process of {most:,} images below {LARGEST_PROCESS_MIB} MiB",
            f"{largest:.0f} MiB",
            largest < LARGEST_PROCESS_MIB,
        ),
        Claim(
            f"it is at most {MEMORY_GROWTH:g} times the largest of {fewer:,} images",
            f"{largest / largest_before:.2f}",
            largest <= MEMORY_GROWTH * largest_before,
        ),
        *(
            Claim(f"{name}: memory at most {MEMORY_GROWTH:g} times", f"{ratio:.2f}", ratio <= MEMORY_GROWTH)
            for name, ratio in growth.items()
        ),
    )
    return Section(f"An archive of {most:,} images", body, claims)


def _streaming(result: Result) -> Section:
    rows, claims = [], []
    for one in result["strategies"]:
        low, high = one["low"], one["high"]
        rows.append(
            [
                one["strategy"],
                *(f"{one[name]:.0f}" for name in ("memory_rate", "files_rate")),
                f"{one['ratio']:.2f}",
                *(f"{fmean(one[name]):.2f}" for name in ("memory_accuracies", "files_accuracies")),
                f"{one['difference']:+.2f} ({low:+.2f} to {high:+.2f})",
            ]
        )
        claims += [
            Claim(
                f"{one['strategy']}: speed with activations in files at least {STREAMED_TO_MEMORY:g} of memory",
                rows[-1][3],
                one["ratio"] >= STREAMED_TO_MEMORY,
            ),
            Claim(f"{one['strategy']}: no significant difference of accuracy", rows[-1][-1], low <= 0 <= high),
            Claim(
                f"{one['strategy']}: a loss of more than {LARGEST_LOSS:g} point of accuracy is excluded",
                f"{low:+.2f}",
                low >= -LARGEST_LOSS,
            ),
        ]
    heading = [
        "strategy",
        "images/s in memory",
        "from files",
        "ratio",
        "accuracy in memory (%)",
        "from files",
        "difference",
    ]
    seeds = len(result["strategies"][0]["memory_accuracies"])
    body = (
        f"{result['images']:,} images × {result['folds']} folds × {seeds} seeds, {result['per_file']} images a file. "
        "Accuracies are means over the seeds; differences in points, with 95 % intervals over the seeds (paired, "
        "Student's t), for these images and folds. Rates are medians over the trials, which took turns.\n\n"
        f"{markdown_table(heading, rows)}"
    )
    return Section("Activations in files", body, tuple(claims))


def _cluster(result: Result) -> Section:
    rows, claims = [], []
    for run in result["runs"]:
        nodes = len(run["received"])
        for node in run["received"]:
            sizes = (f"{node[name]:.0f}" for name in ("megabytes", "fetched_mb"))
            counts = (f"{node[name]:,}" for name in ("hits", "misses", "evictions"))
            rows.append([str(nodes), node["name"], str(node["trials"]), *sizes, *counts])
        for strategy, difference in run["differences"].items():
            wanted = f"probabilities of {nodes} nodes differ from one node's by at most {LARGEST_DIFFERENCE:g}"
            claims.append(Claim(f"{strategy}: {wanted}", f"{difference:.2g}", difference <= LARGEST_DIFFERENCE))
    times = ", ".join(f"{run['seconds']:.0f} s with {len(run['received'])} nodes" for run in result["runs"])
    heading = ["nodes", "node", "trials", "received (MB)", "of it into the cache (MB)", "hits", "misses", "evictions"]
    where = "an object store" if result["store"] else "a folder that all see"
    body = (
        f"{result['images']:,} images at {result['input_size']} px × {result['folds']} folds; manifest and study in "
        f"{where}. Nodes are network namespaces of one machine, with one processor each. {times}. Received is all that "
        "came over a node's network: manifest, images, activations, the study, and Ray's own messages. The images have "
        f"{result['image_mb']:.0f} MB, the activations {result['activation_mb']:.0f} MB. Hits and "
        "misses are reads of a file by trials; a trial whose activations fit into its memory reads each file once.\n\n"
        + markdown_table(heading, rows)
    )
    return Section("A study on several nodes", body, tuple(claims))


def _trials(result: Result) -> Section:
    names = [field.name for field in fields(Measured)]
    few, many = (Measured(**{name: result[size][name] for name in names}) for size in ("few", "many"))
    rows = [[name, *cells] for name, cells in table_rows(few, many).items()]
    grows = result["verdict"].split(" (")[0]
    body = (
        f"Trials of {result['seconds']:g} s that sleep; their reports and files are those of any study. "
        f"Growth: {result['verdict']}.\n\n{markdown_table(['', 'few', 'many'], rows)}"
    )
    claim = Claim("the driver's work and the status grow at most linearly", grows, grows == LINEAR_VERDICT)
    return Section(f"{many.trials:,} trials", body, (claim,))


SECTIONS: dict[str, Callable[[Result], Section]] = {
    "archive": _archive,
    "streaming": _streaming,
    "cluster": _cluster,
    "trials": _trials,
}
