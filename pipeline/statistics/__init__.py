"""Intervals and paired tests: arrays in, numbers out."""
