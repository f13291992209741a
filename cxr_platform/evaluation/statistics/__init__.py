"""Statistics of out-of-fold predictions: intervals, comparisons, calibration, thresholds, subgroups."""
