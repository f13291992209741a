"""`cxr VERB …`: the verbs of `pipelines/` under one name."""

import importlib
import sys
from collections.abc import Sequence

VERBS = {
    "phantoms": "draw a collection of synthetic images",
    "manifest": "build and validate the manifest of a folder of collections",
    "cross-validate": "run every strategy × fold over a manifest, then write the report",
    "study": "show the progress of a study: trials by state and node, time left, cost",
    "simulate": "forecast the duration of a study on other hardware from known trial times",
    "report": "write the report of a study",
    "evaluate": "score unseen images with the models of a study",
    "explain": "show which parts of one image a study's prediction comes from",
    "lungs": "train and score the network that outlines the lungs",
    "submit": "run a verb as a job of a Ray cluster",
    "results": "write the page of published results from finished studies",
    "track": "log a finished study and its report to MLflow",
    "champion": "train the champion on all images of a study and add it to the registry",
    "serve": "serve the champion over HTTP",
    "screen": "screen images, in this process or with a server",
    "registry": "list, show, verify, promote and roll back versions of the registry",
    "exporter": "export the state of the registry to Prometheus",
    "benchmark": "measure training, the manifest and the server against baselines",
    "gpu-study": "measure a GPU and run the paper's study on it, with JAX and without Ray",
}
"""Verb → its line in `cxr --help`. The module is `pipelines.VERB`, with `_` for `-`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb named first and return its exit code; 2 for an unknown verb."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print("usage: cxr VERB [arguments]\n\nChest X-ray studies on Ray. For research, not for diagnosis.\n")
        print("\n".join(f"  {verb:<15} {summary}" for verb, summary in VERBS.items()))
        print("\n`cxr VERB --help` lists the options of a verb.")
        return 0 if words else 2
    verb, *rest = words
    if verb not in VERBS:
        print(f"Expected a verb out of {', '.join(VERBS)}. Received: {verb!r}.", file=sys.stderr)
        return 2
    module = importlib.import_module(f"pipelines.{verb.replace('-', '_')}")
    code: int = module.main(rest)
    return code


if __name__ == "__main__":
    sys.exit(main())
