"""Assembly of a bundle from a study and its champion: export, operating point, reference statistics, model card."""
