"""Frozen activations of a study: what to compute, where they are kept, and by which processes."""
