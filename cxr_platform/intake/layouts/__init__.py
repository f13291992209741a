"""Layouts in which collections are published, one module per layout."""
