"""Confidence intervals and paired tests: arrays in, numbers out."""
