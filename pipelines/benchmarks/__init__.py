"""Benchmarks of `cxr benchmark`: the platform beside simple baselines, in one run on one machine."""
