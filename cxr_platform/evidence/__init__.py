"""Analyses of a study for its report: shortcut probes, external predictions, heatmaps, features."""
