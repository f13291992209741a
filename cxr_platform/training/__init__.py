"""One trial, and the study that runs all of them."""
