"""Logging of finished studies to MLflow."""
