"""From a study and a champion's weights to a bundle: export, out-of-fold facts, reference statistics, model card."""
