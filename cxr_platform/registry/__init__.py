"""Bundles, their versions, and which of them is the champion."""
