"""A finished study in MLflow: one run for the study, and below it one for each trial. Needs the extra `tracking`."""
