"""What is computed from a study's models and images for its report: probes, external scores, heatmaps, features."""
