"""What is computed from a study's models and films for its report: probes, external scores, heatmaps, features."""
