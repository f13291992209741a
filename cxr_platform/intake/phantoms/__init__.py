"""Synthetic frontal chest images, drawn for tests and for trying the platform without real X-rays."""
