"""From the files of public collections to films of one size."""
