"""Registry of model versions: bundles, their checksums, comparison and promotion."""
