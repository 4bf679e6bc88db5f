"""Figures and comparisons of results."""
