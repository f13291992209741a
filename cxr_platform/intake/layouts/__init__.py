"""One module a published layout."""
