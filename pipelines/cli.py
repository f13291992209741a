"""`cxr VERB …`: the verbs of `pipelines/` under one name."""

import importlib
import sys
from collections.abc import Sequence

VERBS = {
    "phantoms": "draw a collection of synthetic images",
    "manifest": "build and validate the manifest of a folder of collections",
    "cross-validate": "run every strategy × fold over a manifest, then write the report",
    "study": "how far a study is: trials by state and node, time left, cost",
    "simulate": "what a study would take on other hardware, from known trial times",
    "report": "write the report of a study again",
    "evaluate": "score a folder of unseen images with the models of a study",
    "explain": "show where the answer for one image of a study comes from",
    "submit": "run a verb as a job of a Ray cluster",
    "track": "log a finished study and its report to MLflow",
    "champion": "train the champion on all images of a study and put it into the registry",
    "serve": "serve the champion over HTTP",
    "screen": "screen images: here, or by a server",
    "registry": "the bundles that can serve, and which of them does",
    "exporter": "export the registry's state to Prometheus",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb named first and return its exit code; 2 for an unknown verb."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print("usage: cxr VERB [arguments]\n\nFor research, not for diagnosis.\n")
        print("\n".join(f"  {verb:<15} {what}" for verb, what in VERBS.items()))
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
