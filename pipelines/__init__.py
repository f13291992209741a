"""One file a verb; each runs as `python -m pipelines.VERB` and as a verb of `cxr`."""
