"""Where a network looks, and which of its features part the classes."""
