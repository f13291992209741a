"""The types that the whole platform shares, each defined once: JSON files, HTTP answers and tables derive from them."""
