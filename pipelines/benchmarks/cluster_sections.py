"""The sections of a page of benchmarks for what ran on several nodes or as many trials (see `page_sections`)."""

from collections.abc import Callable
from dataclasses import fields

from pipelines.benchmarks import markdown_table
from pipelines.benchmarks.page_sections import Claim, Result, Section
from pipelines.benchmarks.trials import LINEAR_VERDICT, Measured, table_rows

LARGEST_DIFFERENCE = 1e-3
"""Of the probabilities of two runs: what sums of floats in another order make of a few hundred steps."""


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
        f"{result['verdict']}.\n\n{markdown_table(['', 'few', 'many'], rows)}"
    )
    claim = Claim("the driver's work and the status grow at most linearly", grows, grows == LINEAR_VERDICT)
    return Section(f"{many.trials:,} trials", body, (claim,))


SECTIONS: dict[str, Callable[[Result], Section]] = {"cluster": _cluster, "trials": _trials}
