"""Scores by case, learning rate and figures."""
