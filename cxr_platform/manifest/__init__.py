"""The manifest: which images take part in a study, in which folds, and why the others do not."""
