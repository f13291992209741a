"""Tests of `cxr_platform.training.activations`."""
