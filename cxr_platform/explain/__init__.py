"""Explanations of a network: heatmaps, the lung field, and the features that separate the classes."""
