"""Intervals, comparisons, calibration and association, computed from predictions."""
