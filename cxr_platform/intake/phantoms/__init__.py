"""Synthetic frontal images that are drawn, for tests and for trying the product out."""
