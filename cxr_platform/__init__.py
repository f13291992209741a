"""Chest X-ray classification studies on Ray. For research, not for diagnosis."""

__version__ = "0.1.0"
