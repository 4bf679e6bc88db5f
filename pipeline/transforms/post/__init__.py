"""Post-processing of probabilities and masks."""
