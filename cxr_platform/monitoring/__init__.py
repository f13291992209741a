"""Metrics, their exporters, and drift of images from the training images."""
