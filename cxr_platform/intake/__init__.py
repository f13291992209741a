"""From the files of public collections to images of one size."""
